import { instant } from "../lib/format";

/** An instant as vouchers show it, in either language (V12, G1): “06/08/2020 15:09”. */
export function shownAt(iso: string): string {
  return instant(iso, ":");
}
