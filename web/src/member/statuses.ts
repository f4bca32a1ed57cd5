import type { Tone } from "../components/Pill.svelte";
import type { Text } from "../lib/language.svelte";

export const STATUSES = [
  "ISSUED",
  "CODE_REVEALED",
  "DELIVERED",
  "INVOICED",
  "SETTLED",
  "CANCELLED",
  "EXPIRED",
] as const;
export type Status = (typeof STATUSES)[number];

/** As a filter names them; the number before each is that on the voucher (V9). */
export const STATUS_NAMES: Readonly<Record<Status, Text>> = {
  ISSUED: ["1 – Émis", "1 – Issued"],
  CODE_REVEALED: ["1 – Émis, code obtenu", "1 – Issued, code drawn"],
  DELIVERED: ["11 – Livré", "11 – Delivered"],
  INVOICED: ["12 – Facturé", "12 – Invoiced"],
  SETTLED: ["13 – Réglé", "13 – Settled"],
  CANCELLED: ["8 – Annulé", "8 – Cancelled"],
  EXPIRED: ["9 – Expiré", "9 – Expired"],
};

const TONES: Readonly<Record<string, Tone>> = {
  ISSUED: "todo",
  CODE_REVEALED: "todo",
  DELIVERED: "good",
  INVOICED: "good",
  SETTLED: "good",
  CANCELLED: "bad",
};

/** The shape of a status; what a later server adds is drawn as something that is over. */
export function tone(status: string): Tone {
  return TONES[status] ?? "over";
}
