using System.Net;
using System.Text;
using KvNode.Raft.Core;

namespace KvNode.Raft.Transport;

/// <summary>Peers over TCP: calls them, is called by them through the listener, sends, receives.</summary>
internal sealed class PeerTransport : IPeerTransport, IPeerAcceptor
{
    private readonly TransportOptions _options;
    private readonly NoticeBoard _board;
    private readonly PeerDialer _dialer;
    private readonly HandshakeRoom _handshakes;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Lock _lock = new();
    private readonly ITimer _ticks;

    // Replaced as a whole under the lock, read without it.
    private Dictionary<ulong, PeerLink> _links = [];
    private PeerLink[] _all = [];

    private PeerIdentity _self;
    private IPeerSink? _sink;

    // Peers named before there was a sink; under the lock.
    private IReadOnlyDictionary<ulong, string>? _earlyPeers;
    private bool _isStopped;

    public PeerTransport(TransportOptions options)
    {
        Invariant.Check(options.Identity.NodeId != 0);
        _options = options;
        _self = options.Identity;
        _board = new NoticeBoard(options.Notice, options.Time);
        _dialer = new PeerDialer(options);
        _handshakes = new HandshakeRoom(TransportLimits.HandshakesMax, options);
        _ticks = options.Time.CreateTimer(_ => Tick(), state: null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    private PeerIdentity Self => Volatile.Read(ref _self);

    public void Start(IPeerSink sink)
    {
        Invariant.Check(_sink is null);
        lock (_lock)
        {
            Volatile.Write(ref _sink, sink);
            if (_earlyPeers is { } early)
            {
                SetPeers(early);
            }
        }

        _ = _ticks.Change(_options.PingInterval, _options.PingInterval);
        if (_options.Security.LoopbackOnly)
        {
            _board.Post(new PeerNotice(
                PeerNoticeKind.LoopbackOnly, 0, Self.Address, "no cluster secret and no TLS: peers on this machine only", 0));
        }
    }

    public void SetCluster(ulong clusterId) => Volatile.Write(ref _self, Self with { ClusterId = clusterId });

    public void SetPeers(IReadOnlyDictionary<ulong, string> addressById)
    {
        List<PeerLink> gone = [];
        lock (_lock)
        {
            if (_isStopped)
            {
                return;
            }

            if (_sink is null)
            {
                _earlyPeers = addressById; // Nobody to tell yet of whom it connects to.
                return;
            }

            var links = new Dictionary<ulong, PeerLink>(_links);
            foreach (var (peer, link) in _links)
            {
                if (link.Address is not null && !addressById.ContainsKey(peer))
                {
                    _ = links.Remove(peer);
                    gone.Add(link);
                }
            }

            foreach (var (peer, address) in addressById)
            {
                // Nor whoever was here before, as an older configuration still has it: this node would call itself.
                if (peer != Self.NodeId && address != Self.Address)
                {
                    CallFromNowOn(links, peer, address);
                }
            }

            Publish(links);
        }

        foreach (var link in gone)
        {
            link.Close("the peer is not a member any more");
        }
    }

    public void Send(in Message message)
    {
        if (Way(message.To)?.Send(in message) == SendResult.Full && message.Type == MessageType.Append)
        {
            _sink!.OnUnreachable(message.To);
        }
    }

    public bool SendForward(ulong to, ulong term, ulong incarnation, ulong sequence, ReadOnlySpan<byte> payload)
    {
        var slots = new FrameSlots();
        slots[0] = term;
        slots[1] = incarnation;
        slots[2] = sequence;
        return Way(to)?.Send(FrameType.Forward, flags: 0, in slots, payload, isSmall: false) == SendResult.Taken;
    }

    public void SendForwardRefused(ulong to, ulong incarnation, ulong sequence, byte reason, string? text)
    {
        var slots = new FrameSlots();
        slots[0] = sequence;
        slots[1] = incarnation;
        _ = Way(to)?.Send(FrameType.ForwardRefused, reason, in slots, Encoding.UTF8.GetBytes(text ?? ""), isSmall: true);
    }

    public void Flush()
    {
        foreach (var link in Volatile.Read(ref _all))
        {
            link.Way?.Flush();
        }
    }

    public bool IsConnected(ulong peer) => Way(peer) is not null;

    public long QueuedBytes(ulong peer) => Way(peer)?.QueuedBytes ?? 0;

    public async ValueTask<ControlReply> AskAsync(
        string address, ControlRequest request, CancellationToken cancellation, ulong expected = 0)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, _stopping.Token);
        var mayHaveArrived = false;
        try
        {
            var hello = new PeerHello(Self, PeerPurpose.Control, expected);
            var (channel, peer) = await _dialer.CallAsync(address, hello, either.Token);
            mayHaveArrived = true;
            try
            {
                return await ControlExchange.AskAsync(channel, peer, request, either.Token);
            }
            finally
            {
                channel.Close();
            }
        }
        catch (IOException e) when (e is not TransportException)
        {
            throw new TransportException($"{address}: {e.Message}", e) { MayHaveArrived = mayHaveArrived };
        }
    }

    public async ValueTask<SnapshotVerdict> SendSnapshotAsync(
        ulong peer, SnapshotOffer offer, ISnapshotSource source, CancellationToken cancellation)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, _stopping.Token);
        var sender = new SnapshotSender(_options, offer, source, () => IsConnected(peer));
        for (var fruitless = 0; ; fruitless++)
        {
            var reached = sender.ReceivedBytes;
            try
            {
                var address = Link(peer)?.Address ?? throw new TransportException($"node {peer} is not a member");
                var hello = new PeerHello(Self, PeerPurpose.Bulk, peer);
                var (channel, _) = await _dialer.CallAsync(address, hello, either.Token);
                try
                {
                    return await sender.SendAsync(channel, either.Token);
                }
                finally
                {
                    channel.Close();
                }
            }
            catch (IOException e)
            {
                fruitless = sender.ReceivedBytes > reached ? 0 : fruitless;
                if (fruitless >= TransportLimits.SnapshotAttemptsMax - 1)
                {
                    throw new TransportException($"the snapshot does not get through: {e.Message}", e);
                }
            }

            await Task.Delay(BackOff(fruitless), _options.Time, either.Token);
        }
    }

    public async Task ServeAsync(PeerChannel channel)
    {
        try
        {
            if (await ShakeHandsAsync(channel) is { } hello)
            {
                await ServeAsync(channel, hello);
            }
        }
        catch (PeerRefusedException e) when (e.Refusal == PeerRefusal.NoCluster)
        {
            // A member calls while this node is being let in. It calls again.
        }
        catch (Exception e) when (e is PeerProtocolException or PeerRefusedException)
        {
            NoteRefused(channel.Remote, e.Message);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // It broke: the other end calls again if it wants to.
        }
        finally
        {
            channel.Close();
        }
    }

    public void NoteRefused(EndPoint? remote, string reason) =>
        _board.Post(new PeerNotice(PeerNoticeKind.Refused, 0, remote?.ToString() ?? "?", reason, 0));

    public void Dispose()
    {
        PeerLink[] links;
        lock (_lock)
        {
            _isStopped = true;
            links = _all;
        }

        _ticks.Dispose();
        _stopping.Cancel();
        foreach (var link in links)
        {
            link.Dispose();
        }
    }

    private PeerLink? Link(ulong peer) => Volatile.Read(ref _links).GetValueOrDefault(peer);

    private PeerConnection? Way(ulong peer) => Link(peer)?.Way;

    // Under the lock.
    private void Publish(Dictionary<ulong, PeerLink> links)
    {
        Volatile.Write(ref _links, links);
        Volatile.Write(ref _all, [.. links.Values]);
    }

    // Under the lock. A stranger's link becomes a member's, with its connections.
    private void CallFromNowOn(Dictionary<ulong, PeerLink> links, ulong peer, string address)
    {
        if (!links.TryGetValue(peer, out var link))
        {
            link = new PeerLink(peer, _sink!, _board.Post);
            links.Add(peer, link);
        }

        var isNew = link.Address is null;
        link.Address = address;
        if (isNew)
        {
            _ = Task.Run(() => KeepCallingAsync(link));
        }
    }

    private async Task<PeerHello?> ShakeHandsAsync(PeerChannel channel)
    {
        if (Volatile.Read(ref _sink) is null || _isStopped)
        {
            return null;
        }

        using var place = _handshakes.Enter();
        using var either = CancellationTokenSource.CreateLinkedTokenSource(place.End, _stopping.Token);
        try
        {
            return await PeerHandshake.AnswerAsync(channel, Self, _options.Security, place.OnHello, Admit, either.Token);
        }
        catch (OperationCanceledException) when (!_stopping.IsCancellationRequested)
        {
            throw new PeerProtocolException(place.IsDisplaced
                ? "too many connections that have not proven anything yet"
                : "it did not complete the handshake in time");
        }
    }

    private PeerRefusal Admit(PeerHello hello)
    {
        if (hello.Purpose == PeerPurpose.Control)
        {
            return PeerRefusal.None;
        }

        return LinkOf(hello.Caller.NodeId) is not { } link ? PeerRefusal.Busy
            : link.IsOutdated(hello.Caller.Incarnation) ? PeerRefusal.Outdated
            : PeerRefusal.None;
    }

    /// <summary>The link to a node that has proven itself, made if it is a stranger; null when there are too many of those.</summary>
    private PeerLink? LinkOf(ulong peer)
    {
        if (Link(peer) is { } known)
        {
            return known;
        }

        lock (_lock)
        {
            if (_isStopped || _links.ContainsKey(peer))
            {
                return _isStopped ? null : _links[peer];
            }

            var links = new Dictionary<ulong, PeerLink>();
            var strangers = 0;
            foreach (var (id, link) in _links)
            {
                if (!link.IsIdle)
                {
                    links.Add(id, link);
                    strangers += link.Address is null ? 1 : 0;
                }
            }

            if (strangers >= TransportLimits.StrangersMax)
            {
                return null;
            }

            var made = new PeerLink(peer, _sink!, _board.Post);
            links.Add(peer, made);
            Publish(links);
            return made;
        }
    }

    private async Task ServeAsync(PeerChannel channel, PeerHello hello)
    {
        if (hello.Purpose == PeerPurpose.Control)
        {
            await ControlExchange.AnswerAsync(
                channel, _sink!, hello.Caller, Self.ClusterId, _options, _stopping.Token);
            return;
        }

        if (LinkOf(hello.Caller.NodeId) is not { } link)
        {
            return;
        }

        if (hello.Purpose == PeerPurpose.Messages)
        {
            await CarryAsync(link, new PeerConnection(channel, hello.Caller, isAccepted: true, _options));
            return;
        }

        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        try
        {
            await link.BeginBulkAsync(channel, end.Task);
            await SnapshotTransfer.ReceiveAsync(channel, _sink!, link.Peer, _options, _stopping.Token);
        }
        finally
        {
            link.EndBulk(channel);
            end.SetResult();
        }
    }

    /// <summary>Delivers what comes on a connection, for as long as it lives.</summary>
    /// <exception cref="PeerProtocolException">It ended for what came on it, and nobody has been told yet.</exception>
    private async Task CarryAsync(PeerLink link, PeerConnection connection)
    {
        // The link of a stranger may have been forgotten since it was looked up.
        if (!link.TryAdd(connection) || Link(link.Peer) != link)
        {
            link.Remove(connection, "outdated");
            return;
        }

        var reason = "it ended the connection";
        PeerProtocolException? wrong = null;
        try
        {
            await connection.DeliverAllAsync(_sink!);
        }
        catch (IOException e)
        {
            reason = e.Message;
            wrong = e as PeerProtocolException;
        }
        catch
        {
            _ = link.Remove(connection, "a defect of this node");
            throw;
        }

        if (!link.Remove(connection, reason) && wrong is not null)
        {
            throw wrong;
        }
    }

    private async Task KeepCallingAsync(PeerLink link)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(link.Closing, _stopping.Token);
        var attempts = 0;
        var failingSince = 0L;
        while (!either.IsCancellationRequested)
        {
            try
            {
                await CallAsync(link, () => (attempts, failingSince) = (0, 0), either.Token);
            }
            catch (Exception e) when (e is PeerRefusedException { Refusal: not PeerRefusal.NoCluster } or PeerProtocolException)
            {
                _board.Post(new PeerNotice(PeerNoticeKind.CallRefused, link.Peer, link.Address ?? "", e.Message, 0));
            }
            catch (Exception e) when (e is IOException or OperationCanceledException)
            {
                // Not there, or not any more, or not in the cluster yet. Whoever waits for it sees that it is not connected;
                // people are told when it lasts.
                failingSince = failingSince == 0 ? Math.Max(1, _options.Time.GetTimestamp()) : failingSince;
                NoteUnreachable(link, failingSince, e.Message);
            }

            await Task.Delay(BackOff(attempts++), _options.Time, either.Token)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void NoteUnreachable(PeerLink link, long since, string reason)
    {
        if (link.Way is null && link.Address is { } address && !_stopping.IsCancellationRequested
            && !link.Closing.IsCancellationRequested && _options.Time.GetElapsedTime(since) >= _options.UnreachableAfter)
        {
            _board.Post(new PeerNotice(PeerNoticeKind.Unreachable, link.Peer, address, reason, 0));
        }
    }

    private async Task CallAsync(PeerLink link, Action connected, CancellationToken cancellation)
    {
        if (link.Address is not { } address || Self.ClusterId == 0)
        {
            return;
        }

        var hello = new PeerHello(Self, PeerPurpose.Messages, link.Peer);
        var (channel, peer) = await _dialer.CallAsync(address, hello, cancellation);
        var connection = new PeerConnection(channel, peer with { Address = address }, isAccepted: false, _options);
        try
        {
            connected();
            await CarryAsync(link, connection);
        }
        finally
        {
            channel.Close();
        }
    }

    // Doubled at each attempt; scattered, so that nodes which lost each other do not come back in step.
    private TimeSpan BackOff(int attempts)
    {
        var wait = Math.Min(
            _options.BackOffMin.TotalMilliseconds * (1L << Math.Min(attempts, 20)), _options.BackOffMax.TotalMilliseconds);
        return TimeSpan.FromMilliseconds(wait * (0.75 + (Random.Shared.NextDouble() / 2)));
    }

    private void Tick()
    {
        _board.Tick();
        foreach (var link in Volatile.Read(ref _all))
        {
            link.Tick();
        }
    }
}
