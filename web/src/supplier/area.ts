import type { Area } from "../routes";

/** What a merchant does as a supplier who is shown vouchers; its screens stand beside those of the till. */
const area: Area = {
  menu: [
    { href: "/verify", label: ["Vérifier un bon", "Verify a voucher"] },
    { href: "/invoices", label: ["Factures", "Invoices"] },
  ],
  routes: [
    { path: "/verify", screen: () => import("./Verify.svelte") },
    { path: "/invoices", screen: () => import("./Invoices.svelte") },
    { path: "/invoices/new", screen: () => import("./NewInvoice.svelte") },
  ],
};

export default area;
