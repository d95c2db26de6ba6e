namespace KvNode.Server.Replication;

/// <summary>Whoever proposed operations and waits for their replies: a connection.</summary>
internal interface IReplySink
{
    /// <summary>The RESP version its replies are written in. Does not change while operations are outstanding.</summary>
    int Protocol { get; }

    /// <summary>Ends the connection at once: the client has gone past a limit. Any thread.</summary>
    void CutOff(string reason);

    /// <summary>
    /// Counts replies to outstanding operations that are kept for it, until <see cref="Release"/>: what they answer is not
    /// published yet, and others may have to be delivered before. Apply thread; must not block.
    /// </summary>
    /// <returns>False when the connection is over, because it has gone or has more kept than it may: they need not be.</returns>
    bool Hold(int bytes);

    /// <summary>Replies that were kept, before the next <see cref="Deliver"/>. Apply thread; must not block.</summary>
    /// <param name="replies">Valid during the call.</param>
    void Release(ReadOnlySpan<byte> replies);

    /// <summary>Replies to the next outstanding operations, in the order they were proposed. Apply thread; must not block.</summary>
    /// <param name="replies">Valid during the call.</param>
    void Deliver(ReadOnlySpan<byte> replies, int operations);
}
