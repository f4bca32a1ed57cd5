import type { Tone } from "../components/Pill.svelte";
import type { PaymentRequestStatus } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export const STATUSES: Readonly<Record<PaymentRequestStatus, Text>> = {
  AWAITING_PAYMENT: ["En attente de paiement client", "Awaiting the customer’s payment"],
  TO_VALIDATE: ["À valider", "To be validated"],
  VALIDATED: ["Validé", "Validated"],
  CANCELLED: ["Annulé", "Cancelled"],
  EXPIRED: ["Expiré", "Expired"],
};

/** The shape of a status, to who collects. */
export const TONES: Readonly<Record<PaymentRequestStatus, Tone>> = {
  AWAITING_PAYMENT: "waiting",
  TO_VALIDATE: "todo",
  VALIDATED: "good",
  CANCELLED: "bad",
  EXPIRED: "over",
};
