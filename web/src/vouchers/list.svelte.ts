import { VouchersDocument, type VoucherRowFragment, type VoucherStatus } from "../generated/operations";
import { oneOf } from "../lib/choices";
import { ask } from "../lib/graphql";
import { listed, type Pages } from "../lib/pages.svelte";
import { place } from "../lib/router.svelte";
import { STATUSES } from "./statuses";

export interface Wanted {
  readonly search: string | null;
  readonly status: VoucherStatus[] | null;
  /** Only those that wrong codes have blocked. */
  readonly blocked: true | null;
}

/** What the address asks for. */
export function wantedVouchers(): Wanted {
  const status = oneOf(STATUSES, place.query.get("status"));
  return {
    search: place.query.get("search") || null,
    status: status ? [status] : null,
    blocked: place.query.get("blocked") === "yes" || null,
  };
}

/** The vouchers that the viewer sees, as the address narrows them. Call it while a screen is made. */
export function vouchers(): Pages<VoucherRowFragment> {
  return listed(async (after) => (await ask(VouchersDocument, { ...wantedVouchers(), after })).vouchers);
}
