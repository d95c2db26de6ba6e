using KvNode.Raft;
using KvNode.Server.Resp;

namespace KvNode.Server.Replication;

/// <summary>
/// One log entry in the making: the writes of all connections in the order they came, and the reads that stand between
/// them, which are not logged but run at their place when the entry is applied.
/// </summary>
/// <remarks>
/// <para>Filled under the proposer's lock until <see cref="Seal"/>; after that the engine and then the apply thread own
/// it, until <see cref="Complete"/> hands the replies to the connections and the batch back to the proposer.</para>
/// <para>A run is a stretch of consecutive operations of one connection. Replies of the whole batch are written into one
/// buffer, run after run, so a connection gets its replies as one span and is flushed once.</para>
/// </remarks>
internal sealed class CommandBatch(Proposer owner) : ProposalBatch
{
    private static readonly byte[] HeaderRoom = new byte[EntryHeader.Bytes];

    private byte[] _payload = [];
    private int _payloadLength;
    private byte[] _reads = [];
    private int _readsLength;
    private Run[] _runs = new Run[16];
    private int _runCount;
    private bool[] _isRead = new bool[64];
    private int _operations;
    private bool _isLong;

    /// <summary>Replies put aside, by run.</summary>
    private readonly Queue<(int Run, byte[] Bytes, int Length)> _held = new();

    /// <summary>Set once the engine has taken the batch: nothing is added any more.</summary>
    public bool Sealed { get; private set; }

    /// <summary>Commands in the payload.</summary>
    public int Writes { get; private set; }

    public int PayloadBytes => _payloadLength;

    /// <summary>Bytes held by the batch, for the limit on what may be in flight.</summary>
    public int HeldBytes => _payloadLength + _readsLength;

    /// <summary>The replies of the whole batch; written by the apply thread.</summary>
    public RespWriter Replies { get; } = new();

    public ReadOnlySpan<Run> Runs => _runs.AsSpan(0, _runCount);

    /// <summary>Adds a write to the entry. Under the proposer's lock.</summary>
    /// <param name="isLong">Its time depends on the number of keys there are.</param>
    public void AddWrite(IReplySink sink, ReadOnlySpan<byte> raw, bool isLong)
    {
        _isLong |= isLong;
        if (_payloadLength == 0)
        {
            // Room for the header, which is written when the batch is closed.
            Append(ref _payload, ref _payloadLength, HeaderRoom);
        }

        Append(ref _payload, ref _payloadLength, raw);
        Writes++;
        AddOperation(sink, read: false);
    }

    /// <summary>Adds a read to run after the writes added so far. Under the proposer's lock.</summary>
    public void AddRead(IReplySink sink, ReadOnlySpan<byte> raw)
    {
        Append(ref _reads, ref _readsLength, raw);
        AddOperation(sink, read: true);
    }

    public override ReadOnlyMemory<byte> Seal() => owner.Seal(this);

    public override bool ReadsAreLong => _readsLength > Limits.LongReadsBytes;

    /// <summary>Closes the batch. Under the proposer's lock.</summary>
    public ReadOnlyMemory<byte> Close(long leaderMs)
    {
        Sealed = true;
        if (Writes > 0)
        {
            new EntryHeader(Writes, leaderMs, _isLong || ReadsAreLong).Write(_payload);
        }

        return _payload.AsMemory(0, _payloadLength);
    }

    /// <summary>True when operation <paramref name="index"/> of the batch is a read.</summary>
    public bool IsRead(int index) => _isRead[index];

    /// <summary>The raw RESP of the writes, one after another.</summary>
    public ReadOnlySpan<byte> Commands => Writes > 0 ? _payload.AsSpan(EntryHeader.Bytes.._payloadLength) : default;

    /// <summary>The raw RESP of the reads, one after another.</summary>
    public ReadOnlySpan<byte> Reads => _reads.AsSpan(0, _readsLength);

    /// <summary>Notes where the replies of run <paramref name="index"/> end.</summary>
    public void EndRun(int index) => _runs[index].ReplyEnd = Replies.Length;

    /// <summary>
    /// Puts what has been gathered so far aside until <see cref="Complete"/>, in pieces, and begins the buffer anew: it
    /// stays small whatever the batch's reads return, and no connection can have more put aside than it may. Not to the
    /// connections themselves: the batches before this one may not have been delivered yet.
    /// </summary>
    /// <param name="index">The run that is being answered.</param>
    /// <returns>False when that run's connection is over.</returns>
    public bool HandOver(int index)
    {
        var start = 0;
        var open = true;
        for (var i = 0; i <= index; i++)
        {
            ref var run = ref _runs[i];
            var end = i < index ? run.ReplyEnd : Replies.Length;
            open = run.Sink.Hold(end - start);
            if (open && end > start)
            {
                var piece = BufferPool.Rent<byte>(end - start);
                Replies.Written[start..end].CopyTo(piece);
                _held.Enqueue((i, piece, end - start));
            }

            // A run's end moves with the start of the buffer: those before this one have nothing left in it.
            start = end;
            run.ReplyEnd = 0;
        }

        Replies.Reset();
        return open;
    }

    public override void Complete(ProposalOutcome outcome)
    {
        if (outcome.Status != ProposalStatus.Committed)
        {
            Replies.Reset();
            owner.Failures.Answer(this, outcome);
        }

        var start = 0;
        for (var i = 0; i < _runCount; i++)
        {
            ref var run = ref _runs[i];
            while (_held.TryPeek(out var held) && held.Run == i)
            {
                run.Sink.Release(held.Bytes.AsSpan(0, held.Length));
                BufferPool.Return(held.Bytes);
                _ = _held.Dequeue();
            }

            run.Sink.Deliver(Replies.Written[start..run.ReplyEnd], run.Operations);
            start = run.ReplyEnd;
        }

        owner.Return(this);
    }

    /// <summary>Makes the batch as new, keeping buffers of ordinary size.</summary>
    public void Reset()
    {
        Array.Clear(_runs, 0, _runCount);
        _runCount = 0;
        _operations = 0;
        _readsLength = 0;
        _payloadLength = 0;
        _isLong = false;
        Writes = 0;
        Sealed = false;
        Replies.Reset();
        Shrink(ref _payload);
        Shrink(ref _reads);
    }

    private static void Shrink(ref byte[] buffer)
    {
        if (buffer.Length > Limits.EntryBytesSoft * 2)
        {
            BufferPool.Return(buffer);
            buffer = [];
        }
    }

    private static void Append(ref byte[] buffer, ref int length, ReadOnlySpan<byte> bytes)
    {
        if (buffer.Length - length < bytes.Length)
        {
            var wanted = Math.Max((long)length + bytes.Length, Math.Min(buffer.Length * 2L, Array.MaxLength));
            var larger = BufferPool.Rent<byte>((int)Math.Max(wanted, 4096));
            buffer.AsSpan(0, length).CopyTo(larger);
            if (buffer.Length > 0)
            {
                BufferPool.Return(buffer);
            }

            buffer = larger;
        }

        bytes.CopyTo(buffer.AsSpan(length));
        length += bytes.Length;
    }

    private void AddOperation(IReplySink sink, bool read)
    {
        if (_operations == _isRead.Length)
        {
            Array.Resize(ref _isRead, _operations * 2);
        }

        _isRead[_operations++] = read;
        if (_runCount > 0 && ReferenceEquals(_runs[_runCount - 1].Sink, sink))
        {
            _runs[_runCount - 1].Operations++;
            return;
        }

        if (_runCount == _runs.Length)
        {
            Array.Resize(ref _runs, _runCount * 2);
        }

        _runs[_runCount++] = new Run { Sink = sink, Operations = 1 };
    }

    /// <summary>Consecutive operations of one connection.</summary>
    internal struct Run
    {
        public IReplySink Sink;
        public int Operations;

        /// <summary>End of the run's replies in <see cref="Replies"/>.</summary>
        public int ReplyEnd;
    }
}
