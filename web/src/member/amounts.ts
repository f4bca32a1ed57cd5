import { current } from "../lib/language.svelte";

/** Whole euros without decimals, as vouchers show their value (G2): “124 €”. */
export function wholeEuros(amount: string): string {
  return new Intl.NumberFormat(current.tag, { style: "currency", currency: "EUR", maximumFractionDigits: 0 }).format(
    Number(amount),
  );
}

/** What the server makes of a typed amount: the next whole euro (V6). Null for what is no amount; the server decides. */
export function roundedUp(typed: string): string | null {
  const parts = /^(\d+)(?:[.,](\d*))?$/.exec(typed);
  if (parts === null) return null;
  const more = Number(parts[2] ?? "") > 0 ? 1n : 0n;
  return String(BigInt(parts[1] ?? "") + more);
}
