// Writes src/generated from ../schema.graphql and the documents in src/**/*.graphql: the types of each operation, and its
// text. A document that does not fit the schema stops the build. A document is a string in the browser: no parser of
// GraphQL gets there. The texts of each file of documents are a module of their own, which comes with the screens that ask
// by them; `operations.ts` names them all.
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { codegen } from "@graphql-codegen/core";
import * as operations from "@graphql-codegen/typescript-operations";
import { Kind, parse, print, Source, stripIgnoredCharacters, visit } from "graphql";

const root = join(import.meta.dirname, "..");
const source = join(root, "src");
const target = join(source, "generated");

const names = (await readdir(source, { recursive: true })).filter((name) => name.endsWith(".graphql")).sort();
const documents = await Promise.all(
  names.map(async (name) => {
    const text = await readFile(join(source, name), "utf-8");
    return { location: name, document: parse(new Source(text, `src/${name}`)) };
  }),
);

const written = await codegen({
  schema: parse(await readFile(join(root, "..", "schema.graphql"), "utf-8")),
  documents,
  filename: "types.ts",
  config: {
    // `__typename` is there when the document asks for it.
    skipTypename: true,
    immutableTypes: true,
    enumType: "string-literal",
    // GraphQL takes one where a list is asked for; we write the list.
    arrayInputCoercion: false,
    strictScalars: true,
    scalars: {
      // Exact decimals, and instants and days as ISO 8601 has them: all are strings on the way.
      Date: "string",
      DateTime: "string",
      Decimal: "string",
      ID: "string",
      Upload: "File",
    },
  },
  pluginMap: { operations },
  plugins: [{ operations: {} }],
});
const fragments = new Map(
  documents
    .flatMap(({ document }) => document.definitions)
    .filter((one) => one.kind === Kind.FRAGMENT_DEFINITION)
    .map((one) => [one.name.value, one]),
);
const modules = documents
  .map(({ location, document }) => ({
    name: location.replace(/\.graphql$/, ""),
    texts: document.definitions.filter((one) => one.kind === Kind.OPERATION_DEFINITION).map(text),
  }))
  .filter(({ texts }) => texts.length > 0);

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
await writeFile(join(target, "types.ts"), written);
for (const { name, texts } of modules) {
  const depth = name.split("/").length;
  const up = "../".repeat(depth);
  const imports = [
    `import type { TypedDocument } from "../${up}lib/graphql";`,
    `import type * as types from "${up}types";`,
  ];
  await mkdir(dirname(join(target, "texts", name)), { recursive: true });
  await writeFile(join(target, "texts", `${name}.ts`), [...imports, ...texts, ""].join("\n"));
}
const all = modules.map(({ name }) => `export * from "./texts/${name}";`);
await writeFile(join(target, "operations.ts"), ['export type * from "./types";', ...all, ""].join("\n"));

/**
 * A constant for an operation: its text with the fragments that it uses, typed by what it takes and gives.
 *
 * @param {import("graphql").OperationDefinitionNode} operation
 */
function text(operation) {
  const name = operation.name?.value;
  if (name === undefined) throw new Error("an operation has a name, for its types");
  const parts = [operation, ...reached(operation, fragments)].map(print).join("\n");
  const types = `types.${capitalised(name)}${capitalised(operation.operation)}`;
  const typed = `TypedDocument<${types}, ${types}Variables>`;
  return `export const ${capitalised(name)}Document = ${JSON.stringify(stripIgnoredCharacters(parts))} as ${typed};`;
}

/** @param {string} word */
function capitalised(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/**
 * The fragments that a definition spreads, and those that they spread, each once.
 *
 * @param {import("graphql").DefinitionNode} definition
 * @param {ReadonlyMap<string, import("graphql").FragmentDefinitionNode>} fragments
 * @param {Set<import("graphql").FragmentDefinitionNode>} found
 */
function reached(definition, fragments, found = new Set()) {
  visit(definition, {
    FragmentSpread({ name }) {
      const fragment = fragments.get(name.value);
      if (fragment && !found.has(fragment)) {
        found.add(fragment);
        reached(fragment, fragments, found);
      }
    },
  });
  return found;
}
