import { INTERFERENCES, type Outcome, STAGES } from '../plan/outcomes.js'
import { table } from './markdown.js'

const BEGIN = '<!-- The table below is made by `npm run generate` from src/plan/outcomes.ts. Do not edit. -->'
const END = '<!-- The end of the table. -->'

/** docs/safety.md with its fault table as the source has it. Throws where the marks around the table are missing. */
export function safetyPage(page: string): string {
  const [before, rest, ...more] = page.split(BEGIN)
  const [, after] = rest?.split(END) ?? []
  if (before === undefined || after === undefined || more.length > 0) {
    throw new Error('docs/safety.md has no place for the fault table')
  }
  return `${before}${BEGIN}\n\n${faultTable()}\n\n${END}${after}`
}

function faultTable(): string {
  const rows = INTERFERENCES.map(({ ways, outcomes }) => [
    ways.join('; '),
    ...STAGES.map((stage) => cell(outcomes[stage])),
  ])
  return table(['what comes between', ...STAGES], rows)
}

/** An end is two words: the phase and its reason. */
function cell(outcome: Outcome | undefined): string {
  if (outcome === undefined) return 'cannot happen'
  const [, phase, reason] = /^(Completed|Aborted|Failed) (\w+)$/.exec(outcome) ?? []
  return phase === undefined ? outcome : `**${phase}** \`${reason}\``
}
