import type { Area } from "../routes";

/** What a merchant does as a supplier who is shown vouchers; its screens stand beside those of the till. */
const area: Area = { menu: [], routes: [] };

export default area;
