// Amounts, days and instants as people read them (G1, G2). Days and instants are those of the issuer's zone.
import { decimal } from "./amounts";
import { current } from "./language.svelte";

export { centsOf, decimal } from "./amounts";

const ZONE = "Europe/Paris";

/** An amount in euros: “1 234,56 €”; `signed` shows the plus of what comes in, “+42,00 €” (H10). */
export function amount(euros: { readonly amount: string } | string, { signed = false } = {}): string {
  const value = typeof euros === "string" ? euros : euros.amount;
  return new Intl.NumberFormat(current.tag, {
    style: "currency",
    currency: "EUR",
    signDisplay: signed ? "exceptZero" : "auto",
  }).format(Number(value));
}

/** An amount in cents. */
export function amountOf(cents: number): string {
  return amount(decimal(cents));
}

/** A number of things. */
export function number(n: number): string {
  return new Intl.NumberFormat(current.tag).format(n);
}

/** A day, “2026-11-22”: “22/11/2026”. */
export function day(iso: string): string {
  return new Intl.DateTimeFormat(current.tag, { dateStyle: "short", timeZone: "UTC" }).format(
    new Date(`${iso}T00:00Z`),
  );
}

/** A day with the name of its weekday: “dimanche 22 novembre 2026”. */
export function longDay(iso: string): string {
  return new Intl.DateTimeFormat(current.tag, { dateStyle: "full", timeZone: "UTC" }).format(new Date(`${iso}T00:00Z`));
}

/** A month, “2026-11”: “novembre 2026”. */
export function month(period: string): string {
  return new Intl.DateTimeFormat(current.tag, { month: "long", year: "numeric", timeZone: "UTC" }).format(
    new Date(`${period}-01T00:00Z`),
  );
}

/** An instant as lists show it: “22/11/2026 14h22”, in English “22/11/2026 14:22”; or with something else between hours
 * and minutes. */
export function instant(iso: string, between = current.language === "fr" ? "h" : ":"): string {
  const part = Object.fromEntries(
    new Intl.DateTimeFormat("en-GB", {
      timeZone: ZONE,
      day: "2-digit",
      month: "2-digit",
      year: "numeric",
      hour: "2-digit",
      minute: "2-digit",
    })
      .formatToParts(new Date(iso))
      .map(({ type, value }) => [type, value]),
  );
  return `${part["day"]}/${part["month"]}/${part["year"]} ${part["hour"]}${between}${part["minute"]}`;
}

/** The civil day of an instant, in the issuer's zone: “2026-11-22”. */
export function dayOf(at: Date): string {
  return new Intl.DateTimeFormat("sv-SE", { timeZone: ZONE }).format(at);
}

/** So many days after a day. */
export function plusDays(iso: string, days: number): string {
  const at = new Date(`${iso}T00:00Z`);
  at.setUTCDate(at.getUTCDate() + days);
  return at.toISOString().slice(0, 10);
}

/** How long until then, in the two largest units that matter: “2 j 4 h”, “3 min 20 s”; empty when it is over. */
export function until(iso: string, now: number): string {
  const seconds = Math.floor((Date.parse(iso) - now) / 1000);
  if (seconds <= 0) return "";
  const units: [number, string][] = [
    [86_400, current.language === "fr" ? "j" : "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const at = units.findIndex(([size]) => seconds >= size);
  let left = seconds;
  return units
    .slice(at, at + 2)
    .map(([size, name]) => {
      const n = Math.floor(left / size);
      left %= size;
      return `${n}\u00a0${name}`;
    })
    .join(" ");
}

interface Person {
  readonly name: string;
  readonly firstName?: string | null;
}

/** “Inès Durand”. */
export function fullName({ name, firstName }: Person): string {
  return [firstName, name].filter(Boolean).join(" ");
}

/** “Inès Durand (44001234B)”. */
export function fullNameAndReference(holder: Person & { readonly reference: string }): string {
  return `${fullName(holder)} (${holder.reference})`;
}
