import type { Area } from "../routes";

/** What a member of a federation does: its vouchers and its statements. */
const area: Area = {
  menu: [
    { href: "/vouchers", label: ["Demande de bons", "Vouchers"] },
    { href: "/statements", label: ["Mes relevés", "My statements"] },
  ],
  routes: [
    { path: "/vouchers", screen: () => import("./Vouchers.svelte") },
    { path: "/vouchers/new", screen: () => import("./NewVoucher.svelte") },
    { path: "/vouchers/:id", screen: () => import("./Voucher.svelte") },
    { path: "/statements", screen: () => import("./Statements.svelte") },
  ],
};

export default area;
