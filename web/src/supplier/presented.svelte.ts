import type { VerifiedVoucherFragment } from "../generated/operations";

interface Verified {
  readonly voucher: VerifiedVoucherFragment;
  readonly secretCode: string;
}

/** The voucher that was verified last, with its code: from there the invoice is recorded, without typing them again. It
 * stands in no address, and is handed on once. */
class Presented {
  #last = $state.raw<Verified | null>(null);

  get voucher(): VerifiedVoucherFragment | null {
    return this.#last?.voucher ?? null;
  }

  show(voucher: VerifiedVoucherFragment, secretCode: string): void {
    this.#last = { voucher, secretCode };
  }

  forget(): void {
    this.#last = null;
  }

  /** For the form that goes on with it. */
  take(): Verified | null {
    const last = this.#last;
    this.forget();
    return last;
  }
}

export const presented = new Presented();
