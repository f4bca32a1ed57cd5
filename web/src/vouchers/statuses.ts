import type { Tone } from "../components/Pill.svelte";
import type { VoucherStatus } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

/** As a filter names them; the number before each is that on the voucher (V9). */
export const STATUSES: Readonly<Record<VoucherStatus, Text>> = {
  ISSUED: ["1 – Émis", "1 – Issued"],
  CODE_REVEALED: ["1 – Émis, code obtenu", "1 – Issued, code drawn"],
  CANCELLED: ["8 – Annulé", "8 – Cancelled"],
  EXPIRED: ["9 – Expiré", "9 – Expired"],
  DELIVERED: ["11 – Livré", "11 – Delivered"],
  INVOICED: ["12 – Facturé", "12 – Invoiced"],
  SETTLED: ["13 – Réglé", "13 – Settled"],
};

export const TONES: Readonly<Record<VoucherStatus, Tone>> = {
  ISSUED: "todo",
  CODE_REVEALED: "todo",
  DELIVERED: "good",
  INVOICED: "good",
  SETTLED: "good",
  CANCELLED: "bad",
  EXPIRED: "over",
};
