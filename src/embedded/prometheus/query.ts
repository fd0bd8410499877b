/**
 * The little of PromQL that storage tiering asks: aggregations over counters with labels to group by. Anything else is
 * refused, so that a query the stand-in would evaluate wrongly cannot pass unnoticed.
 */
export type Expression =
  | { readonly kind: 'aggregate'; readonly by: readonly string[]; readonly of: Expression; readonly operator: Operator }
  | { readonly kind: 'range'; readonly function: RangeFunction; readonly metric: string; readonly rangeMs: number }
  | { readonly kind: 'timestamp'; readonly metric: string }
  | { readonly kind: 'instant'; readonly metric: string; readonly offsetMs: number }

const OPERATORS = ['sum', 'max', 'count'] as const
type Operator = (typeof OPERATORS)[number]
const RANGE_FUNCTIONS = ['rate', 'count_over_time'] as const
type RangeFunction = (typeof RANGE_FUNCTIONS)[number]

/** Words that mean something else in PromQL and so are no metric names here. */
const RESERVED: readonly string[] = ['by', 'without', 'offset', 'on', 'ignoring', 'bool', 'and', 'or', 'unless']

const TOKEN = /\s*(?:(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?<duration>[0-9]+[a-z0-9]*)|(?<mark>[()[\],]))/y
const DURATION = /^(?:(?<d>[0-9]+)d)?(?:(?<h>[0-9]+)h)?(?:(?<m>[0-9]+)m(?!s))?(?:(?<s>[0-9]+)s)?(?:(?<ms>[0-9]+)ms)?$/
const UNIT_MS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const

export class QueryError extends Error {}

interface Token {
  readonly kind: 'name' | 'duration' | 'mark'
  readonly text: string
}

function tokens(query: string): Token[] {
  const found: Token[] = []
  const text = query.trimEnd()
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex
    const { name, duration, mark } = TOKEN.exec(text)?.groups ?? {}
    if (name !== undefined) found.push({ kind: 'name', text: name })
    else if (duration !== undefined) found.push({ kind: 'duration', text: duration })
    else if (mark !== undefined) found.push({ kind: 'mark', text: mark })
    else throw new QueryError(`1:${at + 1}: parse error: unexpected character`)
  }
  return found
}

function durationMs(text: string): number {
  const units = DURATION.exec(text)?.groups
  if (units === undefined) throw new QueryError(`not a valid duration string: "${text}"`)
  let ms = 0
  for (const [unit, factor] of Object.entries(UNIT_MS)) ms += Number(units[unit] ?? 0) * factor
  if (ms === 0) throw new QueryError('duration must be greater than 0')
  return ms
}

/** Parses `query`; throws QueryError for anything outside the grammar. */
export function parseQuery(query: string): Expression {
  const rest = tokens(query)
  let position = 0

  const peek = () => rest[position]
  const take = (kind: Token['kind'], text?: string): string => {
    const token = rest[position]
    if (token === undefined || token.kind !== kind || (text !== undefined && token.text !== text)) {
      throw new QueryError(`parse error: unexpected ${token === undefined ? 'end of input' : `"${token.text}"`}`)
    }
    position++
    return token.text
  }
  const follows = (text: string) => peek()?.text === text
  const metric = (): string => {
    const name = take('name')
    if (RESERVED.includes(name)) throw new QueryError(`parse error: unexpected "${name}"`)
    return name
  }

  const expression = (): Expression => {
    const name = metric()
    const operator = OPERATORS.find((known) => known === name)
    if (operator !== undefined) {
      take('name', 'by')
      take('mark', '(')
      const by = [take('name')]
      while (follows(',')) {
        take('mark', ',')
        by.push(take('name'))
      }
      take('mark', ')')
      take('mark', '(')
      const of = expression()
      take('mark', ')')
      return { kind: 'aggregate', operator, by, of }
    }
    if (follows('(')) {
      take('mark', '(')
      const of = metric()
      const range = RANGE_FUNCTIONS.find((known) => known === name)
      if (range !== undefined) {
        take('mark', '[')
        const rangeMs = durationMs(take('duration'))
        take('mark', ']')
        take('mark', ')')
        return { kind: 'range', function: range, metric: of, rangeMs }
      }
      if (name !== 'timestamp') throw new QueryError(`parse error: unknown function with name "${name}"`)
      take('mark', ')')
      return { kind: 'timestamp', metric: of }
    }
    let offsetMs = 0
    if (follows('offset')) {
      take('name', 'offset')
      offsetMs = durationMs(take('duration'))
    }
    return { kind: 'instant', metric: name, offsetMs }
  }

  const parsed = expression()
  const left = peek()
  if (left !== undefined) throw new QueryError(`parse error: unexpected "${left.text}"`)
  return parsed
}
