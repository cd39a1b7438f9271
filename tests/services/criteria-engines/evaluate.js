// Judges the patients of a question on standard input by engines of FHIRPath and CQL, and answers
// on standard output: for each patient and engine the verdict on each index resource.

"use strict";

const { readFileSync } = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

// The engines are where they were installed, not beside this file.
const installed = createRequire(path.join(process.argv[2], "package.json"));
const fhirpath = installed("fhirpath");
const r4 = installed("fhirpath/fhir-context/r4");
const cql = installed("cql-execution");
const { PatientSource } = installed("cql-exec-fhir");

function verdict(included, excluded) {
  if (included && excluded) return "both";
  return included ? "included" : excluded ? "excluded" : "unknown";
}

function byFhirpath(bundle, texts) {
  const compiled = compiledOf(texts);
  const chosen = compiled.index(bundle).map((one) => one.id);
  const found = {};
  for (const id of chosen) {
    const isOther = (one) => one.resourceType === "Procedure" && one.id !== id;
    const entry = bundle.entry.filter(
      (one) => !(isOther(one.resource) && chosen.includes(one.resource.id)),
    );
    const alone = { ...bundle, entry };
    const holds = (name) => compiled[name](alone)[0] === true;
    found[`Procedure/${id}`] = verdict(holds("included"), holds("excluded"));
  }
  return found;
}

const known = new Map();

function compiledOf(texts) {
  const key = JSON.stringify(texts);
  if (!known.has(key)) {
    const each = ["index", "included", "excluded"].map((name) => {
      const evaluate = fhirpath.compile(texts[name], r4);
      return [name, (bundle) => evaluate(bundle, { resource: bundle })];
    });
    known.set(key, Object.fromEntries(each));
  }
  return known.get(key);
}

async function byCql(bundle, library, source, parameters) {
  const executor = new cql.Executor(library, null, parameters);
  source.reset();
  source.loadBundles([bundle]);
  const results = (await executor.exec(source)).patientResults;
  const [one] = Object.values(results);
  return Object.fromEntries(one.Results.map((each) => [`Procedure/${each.biopsy}`, each.verdict]));
}

async function main() {
  const question = JSON.parse(readFileSync(0, "utf-8"));
  const library = new cql.Library(question.elm);
  const source = PatientSource.FHIRv401();
  const answers = [];
  for (const one of question.patients) {
    answers.push({
      fhirpath: byFhirpath(one.bundle, one.fhirpath),
      cql: await byCql(one.bundle, library, source, one.parameters),
    });
  }
  process.stdout.write(JSON.stringify(answers));
}

main();
