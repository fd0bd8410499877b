import { get } from 'node:http'
import { parseConfig } from './config.js'

/**
 * For the container's HEALTHCHECK: exits with 0 when /healthz of the operator in the same container answers 200, else
 * with 1. It finds the address as the operator does, but from the environment alone: it does not see its arguments.
 */

const { host, port } = parseConfig([], process.env).healthAddr
const end = (healthy: boolean) => process.exit(healthy ? 0 : 1)

// Where every address of the machine is served, its own is one of them.
const own = { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host
get({ host: own, port, path: '/healthz', timeout: 3_000 }, ({ statusCode }) => end(statusCode === 200))
  .on('timeout', () => end(false))
  .on('error', () => end(false))
