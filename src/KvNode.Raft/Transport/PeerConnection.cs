using System.Text;
using KvNode.Raft.Core;

namespace KvNode.Raft.Transport;

/// <summary>What became of something that was to be sent.</summary>
internal enum SendResult
{
    /// <summary>It waits for the next <see cref="PeerConnection.Flush"/>.</summary>
    Taken,

    /// <summary>Too much waits already.</summary>
    Full,

    /// <summary>The connection is over.</summary>
    Closed,
}

/// <summary>
/// One connection that has passed its handshake and carries messages, both ways. Sending: any thread. Receiving: one loop,
/// which never waits for the sending side, so two nodes that both have full socket buffers still drain each other.
/// </summary>
internal sealed class PeerConnection
{
    /// <summary>Beyond the limit for what flow control covers: votes, heartbeats, responses. They are few and small.</summary>
    private const int ReserveBytes = 1 << 20;

    private readonly PeerChannel _channel;
    private readonly TransportOptions _options;
    private readonly Lock _lock = new();

    // Under the lock, but for _sending, which belongs to whoever has set _isSending.
    private SendBuffer _waiting = new();
    private SendBuffer _sending = new();
    private bool _isSending;
    private bool _isClosed;

    private int _sent;
    private bool _hasWaiting;
    private bool _wasBusy;
    private int _silentIntervals;
    private LogEntry[] _entries = new LogEntry[16];

    public PeerConnection(PeerChannel channel, PeerIdentity peer, bool isAccepted, TransportOptions options)
    {
        _channel = channel;
        _options = options;
        Peer = peer;
        IsAccepted = isAccepted;
    }

    public PeerIdentity Peer { get; }

    /// <summary>The peer called this node, and not this node the peer.</summary>
    public bool IsAccepted { get; }

    /// <summary>Why it ended; null while it has not or when the other end just finished.</summary>
    public string? EndReason { get; private set; }

    public long QueuedBytes
    {
        get
        {
            lock (_lock)
            {
                return Queued;
            }
        }
    }

    // Under the lock. What the socket has taken of a buffer under way counts until all of it is taken.
    private long Queued => (long)_waiting.Length + _sending.Length - Volatile.Read(ref _sent);

    public SendResult Send(in Message message)
    {
        var payloadBytes = MessageCodec.PayloadBytes(in message);
        Invariant.Check(payloadBytes <= _options.PayloadBytesMax);
        var bytes = PeerFrameHeader.Bytes + (int)payloadBytes;
        lock (_lock)
        {
            var result = Admit(bytes, message.Type == MessageType.Append ? 0 : ReserveBytes);
            if (result == SendResult.Taken)
            {
                MessageCodec.Encode(in message, _waiting.Add(bytes));
            }

            return result;
        }
    }

    public SendResult Send(FrameType type, byte flags, in FrameSlots slots, ReadOnlySpan<byte> payload, bool isSmall)
    {
        Invariant.Check(payload.Length <= _options.PayloadBytesMax);
        var bytes = PeerFrameHeader.Bytes + payload.Length;
        lock (_lock)
        {
            var result = Admit(bytes, isSmall ? ReserveBytes : 0);
            if (result == SendResult.Taken)
            {
                var frame = _waiting.Add(bytes);
                payload.CopyTo(frame[PeerFrameHeader.Bytes..]);
                PeerFrameHeader.Seal(frame, type, flags, in slots);
            }

            return result;
        }
    }

    /// <summary>Sends what waits, as far as the socket takes it at once; the rest follows when it can.</summary>
    public void Flush()
    {
        if (!Volatile.Read(ref _hasWaiting) || !TryBegin())
        {
            return;
        }

        try
        {
            do
            {
                _sent = _channel.TrySend(_sending.Span);
                if (_sent < _sending.Length)
                {
                    _ = SendRestAsync();
                    return;
                }
            }
            while (GoOn());
        }
        catch (IOException failure)
        {
            EndSending(failure);
        }
    }

    /// <summary>Delivers what arrives until the connection ends.</summary>
    /// <exception cref="PeerProtocolException">The other end sent what no peer sends.</exception>
    /// <exception cref="IOException">The connection broke.</exception>
    public async Task DeliverAllAsync(IPeerSink sink)
    {
        using var reader = new FrameReader(_options.Memory, _options.PayloadBytesMax);
        while (true)
        {
            while (reader.TryTake(out var header, out var payload))
            {
                Deliver(sink, in header, payload);
            }

            sink.OnDelivered();

            var received = await _channel.ReceiveAsync(reader.Room, CancellationToken.None);
            if (received == 0)
            {
                return;
            }

            Volatile.Write(ref _silentIntervals, 0);
            reader.Received(received);
        }
    }

    /// <summary>Once in each ping interval: shows that this end lives, and looks whether the other does.</summary>
    /// <remarks>Silence is counted in intervals and not by the clock: a node that was stopped for a while must not take its
    /// own sleep for its peers' silence.</remarks>
    public void Tick()
    {
        if (Interlocked.Increment(ref _silentIntervals) > _options.SilentIntervalsMax)
        {
            Close($"nothing came for {_options.SilentIntervalsMax} times {_options.PingInterval.TotalMilliseconds} ms");
            return;
        }

        if (!Interlocked.Exchange(ref _wasBusy, false) && QueuedBytes == 0)
        {
            _ = Send(FrameType.Ping, flags: 0, default, payload: [], isSmall: true);
        }

        // Also sends what somebody forgot to flush.
        Flush();
    }

    /// <summary>Ends the connection; <see cref="DeliverAllAsync"/> comes back.</summary>
    public void Close(string? reason)
    {
        lock (_lock)
        {
            if (!_isClosed)
            {
                _isClosed = true;
                EndReason = reason;
                FreeBuffers();
            }
        }

        _channel.Close();
    }

    // Under the lock.
    private SendResult Admit(int bytes, int reserve)
    {
        if (_isClosed)
        {
            return SendResult.Closed;
        }

        // Alone anything goes, however large; what waits is not copied again to make room for an array that cannot be.
        var queued = Queued;
        if (queued > 0 && (queued + bytes > _options.QueuedBytesMax + reserve || (long)_waiting.Length + bytes > Array.MaxLength))
        {
            return SendResult.Full;
        }

        Volatile.Write(ref _hasWaiting, true);
        return SendResult.Taken;
    }

    private bool TryBegin()
    {
        lock (_lock)
        {
            return !_isSending && !_isClosed && TakeWaiting();
        }
    }

    // Under the lock.
    private bool TakeWaiting()
    {
        _sending.Clear();
        Volatile.Write(ref _sent, 0);
        _hasWaiting = false;
        _isSending = _waiting.Length > 0;
        if (_isSending)
        {
            _wasBusy = true;
            (_waiting, _sending) = (_sending, _waiting);
        }

        return _isSending;
    }

    // All of _sending is sent. Whoever found it under way has left what it added to this thread.
    private bool GoOn()
    {
        lock (_lock)
        {
            if (!_isClosed)
            {
                return TakeWaiting();
            }

            _isSending = false;
            FreeBuffers();
            return false;
        }
    }

    private async Task SendRestAsync()
    {
        try
        {
            do
            {
                await _channel.SendAsync(_sending.Memory[_sent..], CancellationToken.None);
                Volatile.Write(ref _sent, _sending.Length);
            }
            while (GoOn());
        }
        catch (Exception failure) when (failure is IOException or OperationCanceledException)
        {
            EndSending(failure);
        }
    }

    private void EndSending(Exception failure)
    {
        lock (_lock)
        {
            _isSending = false;
            if (_isClosed)
            {
                FreeBuffers();
                return;
            }
        }

        Close(failure.Message);
    }

    // Under the lock, closed. The socket may still read from a buffer that is under way.
    private void FreeBuffers()
    {
        _waiting.Free();
        if (!_isSending)
        {
            _sending.Free();
            Volatile.Write(ref _sent, 0);
        }
    }

    private void Deliver(IPeerSink sink, in PeerFrameHeader header, FrameBuffer? payload)
    {
        var bytes = payload?.Memory ?? default;
        if (MessageCodec.IsMessage(header.Type))
        {
            Message message;
            try
            {
                message = MessageCodec.Decode(in header, bytes, Peer.NodeId, _options.Identity.NodeId, ref _entries);
            }
            catch (PeerProtocolException)
            {
                payload?.Release();
                throw;
            }

            sink.OnMessage(in message, payload);
            return;
        }

        switch (header.Type)
        {
            case FrameType.Forward:
                sink.OnForward(Peer.NodeId, header.Slots[0], header.Slots[1], header.Slots[2], bytes, payload);
                return;
            case FrameType.ForwardRefused:
                var text = Encoding.UTF8.GetString(bytes.Span);
                payload?.Release();
                sink.OnForwardRefused(Peer.NodeId, header.Slots[1], header.Slots[0], header.Flags, text);
                return;
            case FrameType.Ping:
                payload?.Release();
                return;
            default:
                payload?.Release();
                throw new PeerProtocolException($"a frame of an unknown type, {(byte)header.Type}");
        }
    }
}
