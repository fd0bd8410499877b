import { register } from 'node:module'
import { MUTANTS } from './mutants.js'

/** Loaded before anything else in a process that runs with a deliberate defect: `MUTANT` names it. */
const name = process.env['MUTANT']
const mutant = MUTANTS.find((known) => known.name === name)
if (mutant === undefined) throw new Error(`there is no mutant ${name}`)
register(new URL('./mutate-hooks.js', import.meta.url), { data: mutant.edits })
