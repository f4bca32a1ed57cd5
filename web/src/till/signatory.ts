import type { Area } from "../routes";
import supplier from "../supplier/area";
import staff from "./area";

/** What a signatory opens: what staff does, and the merchant's own affairs (P3, P5). */
const area: Area = {
  menu: [
    { href: "/home", label: ["Accueil", "Start"] },
    { href: "/payments", label: ["Encaissement", "Payments"] },
    { href: "/reimbursements", label: ["Mes remboursements", "My reimbursements"] },
    ...supplier.menu,
    { href: "/merchant", label: ["Mon établissement", "My business"] },
    { href: "/rights", label: ["Gestion des droits", "Rights"] },
  ],
  routes: [
    ...staff.routes,
    { path: "/reimbursements", screen: () => import("./Reimbursements.svelte") },
    { path: "/reimbursements/:id", screen: () => import("./Reimbursement.svelte") },
    { path: "/merchant", screen: () => import("./Merchant.svelte") },
    { path: "/rights", screen: () => import("./Rights.svelte") },
    { path: "/rights/new", screen: () => import("./StaffMember.svelte") },
    { path: "/rights/:id", screen: () => import("./StaffMember.svelte") },
  ],
};

export default area;
