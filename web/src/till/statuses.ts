import type { Tone } from "../components/Pill.svelte";
import type { Text } from "../lib/language.svelte";

export const STATUSES = ["AWAITING_PAYMENT", "TO_VALIDATE", "VALIDATED", "CANCELLED", "EXPIRED"] as const;
export type Status = (typeof STATUSES)[number];

export const STATUS_NAMES: Readonly<Record<Status, Text>> = {
  AWAITING_PAYMENT: ["En attente de paiement client", "Awaiting the customer’s payment"],
  TO_VALIDATE: ["À valider", "To be validated"],
  VALIDATED: ["Validé", "Validated"],
  CANCELLED: ["Annulé", "Cancelled"],
  EXPIRED: ["Expiré", "Expired"],
};

const TONES: Readonly<Record<string, Tone>> = {
  AWAITING_PAYMENT: "waiting",
  TO_VALIDATE: "todo",
  VALIDATED: "good",
  CANCELLED: "bad",
};

/** The shape of a status; what a later server adds is drawn as something that is over. */
export function tone(status: string): Tone {
  return TONES[status] ?? "over";
}

export const REIMBURSEMENT_STATUSES: Readonly<Record<"PENDING" | "SENT" | "SETTLED" | "REJECTED", Text>> = {
  PENDING: ["À transmettre", "To be sent"],
  SENT: ["Transmis à la banque", "Sent to the bank"],
  SETTLED: ["Réglé", "Settled"],
  REJECTED: ["Rejeté", "Rejected"],
};

const REIMBURSEMENT_TONES: Readonly<Record<string, Tone>> = {
  PENDING: "waiting",
  SENT: "todo",
  SETTLED: "good",
  REJECTED: "bad",
};

/** The shape of a reimbursement's status. */
export function reimbursementTone(status: string): Tone {
  return REIMBURSEMENT_TONES[status] ?? "over";
}
