namespace KvNode.Raft.Engine;

/// <summary>
/// This node's batches between being taken and being answered, in the order they were proposed, which is the order they are
/// answered in: batches of writes on their way into the log, batches of reads waiting for a confirmed index.
/// </summary>
/// <remarks>
/// A turn adds, sends and confirms; the applying thread takes. A batch's bytes are only touched under the lock as
/// long as it is in here: once taken it may be answered and used again.
/// </remarks>
internal sealed class OutstandingBatches
{
    private readonly Lock _gate = new();
    private Item[] _ring = new Item[64];
    private int _head;
    private int _count;
    private int _writes;
    private int _longReads;
    private long _bytes;

    public enum State : byte
    {
        /// <summary>A write that no leader has been given yet, or a read without a round.</summary>
        Waiting,

        /// <summary>A write that may be in a log somewhere; a read whose round is under way.</summary>
        Sent,

        /// <summary>A read that may be served once <see cref="Item.Number"/> is applied.</summary>
        Confirmed,

        /// <summary>To be answered with <see cref="Item.Outcome"/>.</summary>
        Failed,
    }

    /// <summary>One batch.</summary>
    internal struct Item
    {
        public ProposalBatch Batch;
        public ReadOnlyMemory<byte> Payload;

        /// <summary>Set: only reads.</summary>
        public bool IsRead;

        public State State;

        /// <summary>Write: its sequence. Read: the context of its round, then the index to wait for.</summary>
        public ulong Number;

        /// <summary>Monotonic nanoseconds when it was taken.</summary>
        public long Since;

        /// <summary>It has been given to a leader at some time: it may be in a log.</summary>
        public bool MayExist;

        /// <summary>It was given to a leader again: a refusal of the last time says nothing about those before.</summary>
        public bool WasGivenTwice;

        public ProposalOutcome Outcome;

        /// <summary>How it is answered when it is not executed as a write.</summary>
        public readonly ProposalOutcome Answer =>
            State == State.Failed ? Outcome : new ProposalOutcome(ProposalStatus.Committed);

        /// <summary>A leader has it now.</summary>
        public void Give()
        {
            State = State.Sent;
            WasGivenTwice = MayExist;
            MayExist = true;
        }

        public void Fail(ProposalOutcome outcome)
        {
            State = State.Failed;
            Outcome = outcome;
        }

        /// <summary>No leader is there for it, or will be.</summary>
        public void GiveUp(string? reason = null) => Fail(MayExist
            ? new ProposalOutcome(ProposalStatus.Unknown)
            : new ProposalOutcome(ProposalStatus.NoLeader, Reason: reason));
    }

    public int Count => Volatile.Read(ref _count);

    /// <summary>Those that hold writes.</summary>
    public int Writes => Volatile.Read(ref _writes);

    /// <summary>Those that hold only reads, and so many that nothing else should wait for them.</summary>
    public int LongReads => Volatile.Read(ref _longReads);

    /// <summary>Payload of the writes.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    public void Add(in Item item)
    {
        lock (_gate)
        {
            if (_count == _ring.Length)
            {
                Grow();
            }

            At(_count) = item;
            Volatile.Write(ref _count, _count + 1);
            Volatile.Write(ref _writes, _writes + (item.IsRead ? 0 : 1));
            Volatile.Write(ref _longReads, _longReads + (IsLong(item) ? 1 : 0));
            _ = Interlocked.Add(ref _bytes, item.Payload.Length);
        }
    }

    /// <summary>Visits every item in order while the visitor says so. Under the lock: must be short.</summary>
    public void Visit<TContext>(TContext context, Visitor<TContext> visitor)
        where TContext : allows ref struct
    {
        lock (_gate)
        {
            for (var i = 0; i < _count; i++)
            {
                if (!visitor(context, ref At(i)))
                {
                    return;
                }
            }
        }
    }

    public delegate bool Visitor<in TContext>(TContext context, ref Item item)
        where TContext : allows ref struct;

    /// <summary>
    /// Takes the oldest item that must be answered before the write with this sequence, or that write itself.
    /// </summary>
    /// <returns>False when there is none.</returns>
    public bool TryTakeThrough(ulong sequence, out Item item)
    {
        lock (_gate)
        {
            for (var i = 0; i < _count; i++)
            {
                ref var at = ref At(i);
                if (at.IsRead)
                {
                    continue;
                }

                if (at.Number > sequence)
                {
                    break;
                }

                return Take(out item);
            }

            item = default;
            return false;
        }
    }

    /// <summary>Takes the oldest item if it can be answered now: failed, or a read confirmed at an applied index.</summary>
    public bool TryTakeReady(ulong appliedIndex, out Item item)
    {
        lock (_gate)
        {
            if (_count > 0)
            {
                ref var first = ref At(0);
#if PLANTED_BUGS
                appliedIndex = Planted.Is(Bug.ReadsBeforeApplied) ? ulong.MaxValue : appliedIndex;
#endif
                if (first.State == State.Failed || (first.State == State.Confirmed && first.Number <= appliedIndex))
                {
                    return Take(out item);
                }
            }

            item = default;
            return false;
        }
    }

    public bool TryTake(out Item item)
    {
        lock (_gate)
        {
            return Take(out item);
        }
    }

    private bool Take(out Item item)
    {
        if (_count == 0)
        {
            item = default;
            return false;
        }

        item = At(0);
        At(0) = default;
        _head = (_head + 1) & (_ring.Length - 1);
        Volatile.Write(ref _count, _count - 1);
        Volatile.Write(ref _writes, _writes - (item.IsRead ? 0 : 1));
        Volatile.Write(ref _longReads, _longReads - (IsLong(item) ? 1 : 0));
        _ = Interlocked.Add(ref _bytes, -item.Payload.Length);
        return true;
    }

    private static bool IsLong(in Item item) => item.IsRead && item.Batch.ReadsAreLong;

    private ref Item At(int i) => ref _ring[(_head + i) & (_ring.Length - 1)];

    private void Grow()
    {
        var larger = new Item[_ring.Length * 2];
        for (var i = 0; i < _count; i++)
        {
            larger[i] = At(i);
        }

        _ring = larger;
        _head = 0;
    }
}
