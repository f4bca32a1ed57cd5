const FORMAT = new Intl.DateTimeFormat("en-GB", {
  timeZone: "Europe/Paris",
  day: "2-digit",
  month: "2-digit",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});

/** An instant as vouchers show it, in either language (V12, G1): “06/08/2020 15:09”. */
export function shownAt(iso: string): string {
  return FORMAT.format(new Date(iso)).replace(", ", " ");
}
