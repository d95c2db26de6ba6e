namespace KvNode.Raft;

/// <summary>What a node must never forget between two terms.</summary>
/// <param name="Term">The newest term this node knows. PERSISTED.</param>
/// <param name="Vote">Node id of who got this node's vote in that term; 0 for nobody. PERSISTED.</param>
internal readonly record struct HardState(ulong Term, ulong Vote);
