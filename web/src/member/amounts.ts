import { current } from "../lib/language.svelte";

/** Whole euros without decimals, as vouchers show their value (G2): “124 €”. */
export function wholeEuros(amount: string): string {
  return new Intl.NumberFormat(current.tag, { style: "currency", currency: "EUR", maximumFractionDigits: 0 }).format(
    Number(amount),
  );
}

/** What the server makes of an amount in cents: the next whole euro (V6). */
export function roundedUp(cents: number): string {
  return String(Math.ceil(cents / 100));
}
