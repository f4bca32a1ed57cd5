import type { CreateHolderInput, HolderCardFragment } from "../generated/operations";

/** What somebody fills in about a holder; what is not known is empty. */
export interface HolderValues {
  reference: string;
  name: string;
  firstName: string;
  email: string;
  mobile: string;
  memberSince: string;
  duesPaidUntil: string;
  statementBy: string;
  street: string;
  postcode: string;
  town: string;
  country: string;
}

/** As it is known; empty for a new one. */
export function valuesOf(holder: HolderCardFragment | null): HolderValues {
  return {
    reference: holder?.reference ?? "",
    name: holder?.name ?? "",
    firstName: holder?.firstName ?? "",
    email: holder?.email ?? "",
    mobile: holder?.mobile ?? "",
    memberSince: holder?.memberSince ?? "",
    duesPaidUntil: holder?.duesPaidUntil ?? "",
    statementBy: holder?.statementBy ?? "",
    street: holder?.postalAddress?.street ?? "",
    postcode: holder?.postalAddress?.postcode ?? "",
    town: holder?.postalAddress?.town ?? "",
    country: holder?.postalAddress?.country ?? "FR",
  };
}

const ADDRESS = ["street", "postcode", "town", "country"] as const;

/** What differs from before, as the API takes it: what is absent stays. */
export function changed(values: HolderValues, before: HolderValues): Omit<CreateHolderInput, "name" | "reference"> {
  const { street, postcode, town, country } = values;
  const differ = (names: readonly (keyof HolderValues)[]) => names.filter((each) => values[each] !== before[each]);
  const days = differ(["memberSince", "duesPaidUntil"]).filter((each) => values[each] !== "");
  return {
    // An empty text is none. A day that is emptied stays: to the API no day is no change.
    ...Object.fromEntries([...differ(["firstName", "email", "mobile"]), ...days].map((each) => [each, values[each]])),
    ...(values.statementBy === "EMAIL" || values.statementBy === "POST" ? { statementBy: values.statementBy } : {}),
    ...(ADDRESS.some((each) => values[each] !== before[each])
      ? { postalAddress: { street, postcode, town, country } }
      : {}),
  };
}
