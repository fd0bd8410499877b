import { type Command, CommanderError, InvalidArgumentError } from 'commander'

/** The command line of a tool cannot be used, or was a question that is answered. Print `message` and exit. */
export class Usage extends Error {
  override readonly name = 'Usage'
  readonly exitCode: number

  constructor(exitCode: number, message: string) {
    super(message)
    this.exitCode = exitCode
  }
}

/** The options that `argv` gives the program. Throws Usage: 0 with the help, 2 with what is wrong. */
export function parseArguments<T extends object>(program: Command, argv: readonly string[]): T {
  let help = ''
  program
    .helpOption('--help', 'print this text')
    .allowExcessArguments(false)
    .configureOutput({
      writeOut: (text) => {
        help += text
      },
      writeErr: () => {},
    })
    .exitOverride()
  try {
    return program.parse(argv, { from: 'user' }).opts<T>()
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    throw error.exitCode === 0 ? new Usage(0, help.trimEnd()) : new Usage(2, error.message)
  }
}

/** The value of an option that is a port; 0 is one. */
export function portNumber(value: string): number {
  const port = Number(value)
  if (!/^[0-9]+$/.test(value) || port > 65_535) throw new InvalidArgumentError('a port, 0 to 65535, is needed.')
  return port
}
