import { ReimbursementsDocument, type ReimbursementFragment, type ReimbursementStatus } from "../generated/operations";
import { oneOf } from "../lib/choices";
import { ask } from "../lib/graphql";
import { listed, type Pages } from "../lib/pages.svelte";
import { place } from "../lib/router.svelte";
import { STATUSES } from "./statuses";

/** The status that the address asks for. */
export function wantedStatus(): ReimbursementStatus | null {
  return oneOf(STATUSES, place.query.get("status"));
}

/** The reimbursements that the viewer sees, as the address narrows them. Call it while a screen is made. */
export function reimbursements(): Pages<ReimbursementFragment> {
  return listed(async (after) => (await ask(ReimbursementsDocument, { status: wantedStatus(), after })).reimbursements);
}
