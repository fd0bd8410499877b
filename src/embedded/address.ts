/** Tells where a stand-in listens, once the cluster has started it. */
export function addressOf(standIn: { start(): Promise<string> }): () => string {
  const start = standIn.start.bind(standIn)
  let address = ''
  standIn.start = async () => {
    address = await start()
    return address
  }
  return () => address
}
