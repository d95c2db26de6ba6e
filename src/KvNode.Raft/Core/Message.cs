namespace KvNode.Raft.Core;

/// <summary>What a message asks or answers. ON THE WIRE: the numbers are never reused.</summary>
internal enum MessageType : byte
{
    PreVote = 1,
    PreVoteResponse = 2,
    Vote = 3,
    VoteResponse = 4,
    Append = 5,
    AppendResponse = 6,
    Heartbeat = 7,
    HeartbeatResponse = 8,
    InstallSnapshot = 9,
    TimeoutNow = 10,
    ReadIndex = 11,
    ReadIndexResponse = 12,
    TransferLeader = 13,
}

/// <summary>One message between two cores. Which fields mean something depends on the type; the others are 0.</summary>
internal record struct Message
{
    public MessageType Type { get; init; }

    public ulong From { get; init; }

    public ulong To { get; init; }

    /// <summary>The sender's term (a pre-vote request carries the term it would campaign in). 0 where the receiver's term
    /// must not matter: ReadIndex, TransferLeader.</summary>
    public ulong Term { get; init; }

    /// <summary>
    /// Append: the entry before the first one sent. AppendResponse: the last index that is durable and agrees with the
    /// leader, or the rejected previous entry's index. Vote, PreVote: the candidate's last entry. VoteResponse and
    /// PreVoteResponse that reject: the sender's last committed entry.
    /// InstallSnapshot: the snapshot's position. ReadIndexResponse: Index is the index to wait for.
    /// </summary>
    public EntryId Entry { get; init; }

    /// <summary>The sender's commit index: Append, Heartbeat (there capped at what the receiver has acknowledged).</summary>
    public ulong Commit { get; init; }

    /// <summary>Append, Heartbeat: the leader's read round when sent. Their responses echo it.</summary>
    public ulong ReadRound { get; init; }

    /// <summary>AppendResponse, VoteResponse, PreVoteResponse, ReadIndexResponse (no leader here).</summary>
    public bool Reject { get; init; }

    /// <summary>Vote in a leadership transfer: not held back by a live leader.</summary>
    public bool Force { get; init; }

    /// <summary>AppendResponse that rejects: the receiver's last entry that may still agree.</summary>
    public EntryId Hint { get; init; }

    /// <summary>ReadIndex and its response: the reader's own number. TransferLeader: the target's node id.</summary>
    public ulong Context { get; init; }

    /// <summary>InstallSnapshot: the configuration at the snapshot's position, encoded.</summary>
    public ReadOnlyMemory<byte> Membership { get; init; }

    /// <summary>Append: valid until the next call into the core that made the message, or during Step.</summary>
    public ReadOnlyMemory<LogEntry> Entries { get; init; }
}
