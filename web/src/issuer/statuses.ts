import type { Tone } from "../components/Pill.svelte";
import type { ReimbursementStatus, Role, VoucherStatus } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export const REIMBURSEMENT_STATUSES: Readonly<Record<ReimbursementStatus, Text>> = {
  PENDING: ["À transmettre", "To be sent"],
  SENT: ["Transmis à la banque", "Sent to the bank"],
  SETTLED: ["Réglé", "Settled"],
  REJECTED: ["Rejeté", "Rejected"],
};

export const VOUCHER_STATUSES: Readonly<Record<VoucherStatus, Text>> = {
  ISSUED: ["Émis", "Issued"],
  CODE_REVEALED: ["Code tiré", "Code drawn"],
  DELIVERED: ["Livré", "Delivered"],
  INVOICED: ["Facturé", "Invoiced"],
  SETTLED: ["Réglé", "Settled"],
  CANCELLED: ["Annulé", "Cancelled"],
  EXPIRED: ["Expiré", "Expired"],
};

export const ROLES: Readonly<Record<Role, Text>> = {
  ISSUER_ADMIN: ["Administrateur", "Administrator"],
  ISSUER_AGENT: ["Agence", "Agency"],
  MERCHANT_MANAGER: ["Signataire d’un commerçant", "Signatory of a merchant"],
  MERCHANT_STAFF: ["Personnel d’un commerçant", "Staff of a merchant"],
  HOLDER: ["Titulaire", "Holder"],
};

const TONES: Readonly<Record<string, Tone>> = {
  PENDING: "todo",
  SENT: "waiting",
  SETTLED: "good",
  REJECTED: "bad",
  ISSUED: "waiting",
  CODE_REVEALED: "todo",
  DELIVERED: "good",
  INVOICED: "good",
  CANCELLED: "bad",
};

/** The shape of a status; what a later server adds is drawn as something that is over. */
export function tone(status: string): Tone {
  return TONES[status] ?? "over";
}

/** Which of these is meant by what stands in the address; null for none. */
export function oneOf<Value extends string>(names: Readonly<Record<Value, unknown>>, given: string | null) {
  return given !== null && Object.hasOwn(names, given) ? (given as Value) : null;
}

/** The options of a list of choices. */
export function options<Value extends string>(
  names: Readonly<Record<Value, Text>>,
  say: (text: Text) => string,
): { value: Value; label: string }[] {
  return (Object.keys(names) as Value[]).map((value) => ({ value, label: say(names[value]) }));
}
