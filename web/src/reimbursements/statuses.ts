import type { Tone } from "../components/Pill.svelte";
import type { ReimbursementStatus } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export const STATUSES: Readonly<Record<ReimbursementStatus, Text>> = {
  PENDING: ["À transmettre", "To be sent"],
  SENT: ["Transmis à la banque", "Sent to the bank"],
  SETTLED: ["Réglé", "Settled"],
  REJECTED: ["Rejeté", "Rejected"],
};

export const TONES: Readonly<Record<ReimbursementStatus, Tone>> = {
  PENDING: "todo",
  SENT: "waiting",
  SETTLED: "good",
  REJECTED: "bad",
};
