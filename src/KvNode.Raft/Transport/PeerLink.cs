namespace KvNode.Raft.Transport;

/// <summary>
/// Everything that connects this node with one other: a connection that this node made, one that the peer made, and which of
/// them is the way out.
/// </summary>
/// <remarks>
/// <para>Both nodes call each other. Each sends on the connection it was called on, if there is one, for then the receiving
/// end is the one that made it: it reads its own socket in large pieces, where an accepted connection comes through the
/// listener's small blocks. With only one connection it carries both directions, so a peer whose address is not known (any
/// more) is reached as soon as it calls.</para>
/// <para>The sink's calls are made under the lock, so that they come in the order of what they report.</para>
/// </remarks>
internal sealed class PeerLink(ulong peer, IPeerSink sink, Action<PeerNotice> notice) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _closing = new();
    private PeerConnection? _called;
    private PeerConnection? _accepted;
    private PeerConnection? _way;
    private PeerChannel? _bulk;
    private Task _bulkEnd = Task.CompletedTask;
    private bool _isClosed;
    private volatile bool _isStopping;

    public ulong Peer => peer;

    /// <summary>Where to call the peer; null for a stranger, who is not called. Set by the transport only.</summary>
    public string? Address { get; set; }

    /// <summary>Nobody calls the peer and it is not connected: the link may be forgotten.</summary>
    public bool IsIdle => Address is null && _called is null && _accepted is null && _bulk is null;

    /// <summary>The connection to send on; null when there is none.</summary>
    public PeerConnection? Way => Volatile.Read(ref _way);

    public CancellationToken Closing => _closing.Token;

    /// <summary>Whether a start of the peer this old may still connect.</summary>
    public bool IsOutdated(ulong incarnation)
    {
        lock (_lock)
        {
            return _isClosed || _called?.Peer.Incarnation > incarnation || _accepted?.Peer.Incarnation > incarnation;
        }
    }

    /// <summary>
    /// Takes a connection in. It replaces the one of its direction: a peer calls again only if it has lost the former. Those
    /// of an older start of the peer are closed.
    /// </summary>
    /// <returns>False when a newer start of the peer is connected: the caller closes the connection.</returns>
    public bool TryAdd(PeerConnection connection)
    {
        lock (_lock)
        {
            if (IsOutdated(connection.Peer.Incarnation))
            {
                return false;
            }

            ref var place = ref connection.IsAccepted ? ref _accepted : ref _called;
            ref var other = ref connection.IsAccepted ? ref _called : ref _accepted;
            var replaced = place;
            var outdated = other?.Peer.Incarnation < connection.Peer.Incarnation ? other : null;
            place = connection;
            other = outdated is null ? other : null;
            _ = Choose(connection.Peer.Address, "");

            // Last, when all is in place: closing may come back here on this very thread.
            replaced?.Close("replaced by a new connection");
            outdated?.Close("replaced by a newer start of the node");
            return true;
        }
    }

    /// <summary>A connection has ended.</summary>
    /// <returns>True when it was the last way and people have been told so.</returns>
    public bool Remove(PeerConnection connection, string? reason)
    {
        lock (_lock)
        {
            connection.Close(reason);
            if (_called == connection)
            {
                _called = null;
            }

            if (_accepted == connection)
            {
                _accepted = null;
            }

            return Choose(connection.Peer.Address, connection.EndReason ?? "it ended the connection");
        }
    }

    /// <summary>Makes way for a snapshot on a new connection: ends the one before and waits until it has let go.</summary>
    /// <param name="end">Completes when the new one has let go.</param>
    public async Task BeginBulkAsync(PeerChannel channel, Task end)
    {
        Task before;
        lock (_lock)
        {
            _bulk?.Close();
            before = _bulkEnd;
            _bulk = channel;
            _bulkEnd = end;
            if (_isClosed)
            {
                channel.Close();
            }
        }

        await before;
    }

    public void EndBulk(PeerChannel channel)
    {
        lock (_lock)
        {
            if (_bulk == channel)
            {
                _bulk = null;
            }
        }
    }

    public void Tick()
    {
        PeerConnection? called;
        PeerConnection? accepted;
        lock (_lock)
        {
            (called, accepted) = (_called, _accepted);
        }

        called?.Tick();
        accepted?.Tick();
    }

    /// <summary>This node stops: as <see cref="Close"/>, and no news for people.</summary>
    public void Dispose()
    {
        _isStopping = true;
        Close("this node stops");
    }

    /// <summary>Ends all connections and every further one.</summary>
    public void Close(string reason)
    {
        lock (_lock)
        {
            _isClosed = true;
            _called?.Close(reason);
            _accepted?.Close(reason);
            _bulk?.Close();
        }

        _closing.Cancel();
    }

    // Under the lock. True when there is no way any more.
    private bool Choose(string address, string reason)
    {
        var way = _accepted ?? _called;
        if (way == _way)
        {
            return false;
        }

        var before = _way;
        Volatile.Write(ref _way, way);
        if (way is null)
        {
            if (!_isStopping)
            {
                Note(PeerNoticeKind.Disconnected, address, reason);
            }

            sink.OnUnreachable(peer);
            return true;
        }

        if (before is null)
        {
            Note(PeerNoticeKind.Connected, address, "");
        }

        sink.OnConnected(peer, way.Peer.Address);
        return false;
    }

    private void Note(PeerNoticeKind kind, string address, string detail) =>
        notice(new PeerNotice(kind, peer, Address ?? address, detail, 0) { IsStranger = Address is null });
}
