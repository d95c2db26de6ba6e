namespace KvNode.Server.Replication;

/// <summary>Whoever proposed operations and waits for their replies: a connection.</summary>
internal interface IReplySink
{
    /// <summary>The RESP version its replies are written in. Does not change while operations are outstanding.</summary>
    int Protocol { get; }

    /// <summary>Ends the connection at once: the client has gone past a limit. Any thread.</summary>
    void CutOff(string reason);

    /// <summary>
    /// Takes over replies to outstanding operations, but keeps them back until the next <see cref="Deliver"/>: what they
    /// answer is not published yet. Apply thread; must not block.
    /// </summary>
    /// <param name="replies">Valid during the call.</param>
    /// <returns>False when the connection is over: it has gone, or held more than it may.</returns>
    bool Hold(ReadOnlySpan<byte> replies);

    /// <summary>Replies to the next outstanding operations, in the order they were proposed. Apply thread; must not block.</summary>
    /// <param name="replies">Valid during the call.</param>
    void Deliver(ReadOnlySpan<byte> replies, int operations);
}
