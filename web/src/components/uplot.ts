// The library that draws, with its style sheet: loaded where a chart is shown, and nowhere else.
import "uplot/dist/uPlot.min.css";

export { default } from "uplot";
