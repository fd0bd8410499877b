const statusOfKind = {
  Deserialize: 400,
  InvalidArgument: 400,
  NotFound: 404,
  NotAcceptable: 406,
  Timeout: 408,
  Conflict: 409,
  Deleting: 409,
  InUse: 409,
  FailedPrecondition: 412,
  NotPublished: 412,
  AlreadyPublished: 412,
  AlreadyExists: 422,
  Internal: 500,
  Aborted: 503,
  Unavailable: 503,
  DeadlineExceeded: 504,
  ResourceExhausted: 507,
  FailedPersist: 507,
} as const

export type FailureKind = keyof typeof statusOfKind

/** Why Mayastor refused or could not finish: what its REST API answers as RestJsonError. */
export interface Failure {
  readonly kind: FailureKind
  /** Begins with the name the core gives the error: several refusals share a kind, only this text tells them apart. */
  readonly message: string
  /** What lies behind it, and often nothing. */
  readonly details: string
}

export function failure(kind: FailureKind, error: string, sentence: string, cause = ''): Failure {
  return { kind, message: `SvcError :: ${error}: ${sentence}`, details: cause }
}

export function precondition(error: string, sentence: string): Failure {
  return failure('FailedPrecondition', error, sentence)
}

/** A call of the core to an io-engine that came back with an error. */
export function engineFailure(kind: FailureKind, request: string, cause: string): Failure {
  return { kind, message: 'SvcError::GrpcRequestError', details: `${request}::${cause}` }
}

export function nodeNotOnline(node: string): Failure {
  return precondition('NodeNotOnline', `Node '${node}' is not online`)
}

export function notFound(what: string, id: string): Failure {
  return failure('NotFound', `${what}NotFound`, `${what} '${id}' not found`)
}

export function statusOf(kind: string): number {
  return (statusOfKind as Record<string, number>)[kind] ?? 500
}
