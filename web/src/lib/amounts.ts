// What somebody types as an amount, understood as the server understands it (`cents` in domain/money.py), which decides
// all the same: here it is only for what is shown before. Nothing is imported, so that a test without a browser may ask.

const MAXIMUM_CENTS = 999_999_999_999;
const LONGEST_TEXT = 32;
const WRITTEN = /^(?:€ *)?([+-]?) *(?:€ *)?([0-9](?:[0-9 .,]*[0-9])?) *€?$/;
const NUMBER = /^(.*?)(?:([.,])([0-9]{1,2}))?$/;
const GROUPS = /^[1-9][0-9]{0,2}([ .,])[0-9]{3}(?:\1[0-9]{3})*$/;

/** The signed cents of what was typed: "20", "20,00", "1 234,56", "€1,234.56". Null for what the server refuses: what is
 * no amount, what can be read in two ways ("1,234"), what is too much. */
export function centsOf(text: string): number | null {
  if ([...text].length > LONGEST_TEXT) return null;
  const plain = text
    .replace(/[\u00a0\u2009\u202f]/g, " ")
    .replaceAll("\u2212", "-")
    .trim();
  const [, sign, number] = WRITTEN.exec(plain) ?? [];
  if (number === undefined || plain.split("€").length > 2) return null;
  const [, euros = "", point, fraction = ""] = NUMBER.exec(number) ?? [];
  const group = GROUPS.exec(euros)?.[1];
  if (!/^[0-9]+$/.test(euros) && (group === undefined || group === point)) return null;
  // "1,234" alone is a thousand or a little more than one.
  if (point === undefined && group !== undefined && group !== " " && euros.split(group).length === 2) return null;
  const cents = Number(euros.replace(/[ .,]/g, "") + fraction.padEnd(2, "0"));
  if (cents > MAXIMUM_CENTS) return null;
  return sign === "-" ? 0 - cents : cents;
}

/** The exact amount in euros, as the server writes it: "40.00", "-0.05". */
export function decimal(cents: number): string {
  const digits = String(Math.abs(cents)).padStart(3, "0");
  return `${cents < 0 ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
