import type { VerifiedVoucherFragment } from "../generated/operations";
import { place } from "../lib/router.svelte";
import { session } from "../lib/session.svelte";

interface Verified {
  readonly voucher: VerifiedVoucherFragment;
  readonly secretCode: string;
}

/** A voucher that was just verified, with its code, on its way from there to the form of its invoice. It stands in no
 * address; it is for the very next screen, and for who has verified it. */
class Presented {
  #handed: { readonly verified: Verified; readonly to: string } | null = null;

  /** Right before the step to the form. */
  hand(verified: Verified): void {
    this.#handed = { verified, to: visit(place.steps + 1) };
  }

  /** For the form that goes on with it; null when it was reached in any other way. */
  take(): Verified | null {
    const handed = this.#handed;
    this.#handed = null;
    return handed?.to === visit(place.steps) ? handed.verified : null;
  }
}

function visit(step: number): string {
  return `${session.viewer?.user.id} ${step}`;
}

export const presented = new Presented();
