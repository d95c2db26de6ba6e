using KvNode.Raft;

namespace KvNode.Server.Replication;

/// <summary>
/// Gathers the writes of all connections into log entries.
/// </summary>
/// <remarks>
/// There is at most one open batch. It is offered to the engine with its first write and stays open until the engine
/// takes it, so whatever arrives while the previous entry is being synced shares the next one: group commit without a
/// timer. A connection holds the lock for one turn (all commands of one received buffer), not per command.
/// </remarks>
internal sealed class Proposer(IConsensusEngine engine, TimeProvider clock, FailureReplies failures)
{
    private const int PooledBatchesMax = 16;

    private readonly Lock _lock = new();
    private readonly Stack<CommandBatch> _pool = new();
    private CommandBatch? _open;
    private long _leaderMs;
    private long _bytesInFlight;

    /// <summary>Answers what does not get executed.</summary>
    public FailureReplies Failures { get; } = failures;

    /// <summary>True when so much waits for the log that connections must wait before they add more.</summary>
    public bool Overloaded => Volatile.Read(ref _bytesInFlight) > Limits.UncommittedBytesMax;

    /// <summary>The smallest time the next batch may carry: the last one applied. Before the engine starts proposing.</summary>
    public void ObserveLeaderTime(long leaderMs) => _leaderMs = Math.Max(_leaderMs, leaderMs);

    /// <summary>Begins a connection's turn: no other connection's operations come between. Pair with <see cref="EndTurn"/>.</summary>
    public void BeginTurn() => _lock.Enter();

    public void EndTurn() => _lock.Exit();

    /// <summary>Adds a write. Within a turn.</summary>
    /// <param name="isLong">Its time depends on the number of keys there are.</param>
    public void AddWrite(IReplySink sink, ReadOnlySpan<byte> raw, bool isLong)
    {
        var batch = _open;
        var fits = batch is { Sealed: false } &&
            (batch.PayloadBytes < Limits.EntryBytesSoft && raw.Length < Limits.EntryBytesSoft);
        if (fits)
        {
            batch!.AddWrite(sink, raw, isLong);
        }
        else
        {
            batch = Open();
            batch.AddWrite(sink, raw, isLong);
            engine.Propose(batch);
        }

        Interlocked.Add(ref _bytesInFlight, raw.Length);
    }

    /// <summary>
    /// Lets a read ride behind the operations before it: with writes, or in a batch of reads alone, which is no log entry but
    /// waits its turn among them. Within a turn.
    /// </summary>
    public void AddRead(IReplySink sink, ReadOnlySpan<byte> raw)
    {
        if (_open is not { Sealed: false } batch || batch.HeldBytes > 4 * Limits.EntryBytesSoft)
        {
            batch = Open();
            batch.AddRead(sink, raw);
            engine.Propose(batch);
        }
        else
        {
            batch.AddRead(sink, raw);
        }

        Interlocked.Add(ref _bytesInFlight, raw.Length);
    }

    /// <summary>The engine takes the batch: stamps the time and closes it.</summary>
    public ReadOnlyMemory<byte> Seal(CommandBatch batch)
    {
        lock (_lock)
        {
            _leaderMs = Math.Max(_leaderMs, clock.GetUtcNow().ToUnixTimeMilliseconds());
            if (ReferenceEquals(_open, batch))
            {
                _open = null;
            }

            return batch.Close(_leaderMs);
        }
    }

    public void Return(CommandBatch batch)
    {
        Interlocked.Add(ref _bytesInFlight, -(batch.HeldBytes - (batch.Writes > 0 ? EntryHeader.Bytes : 0)));
        batch.Reset();
        lock (_lock)
        {
            if (_pool.Count < PooledBatchesMax)
            {
                _pool.Push(batch);
            }
        }
    }

    private CommandBatch Open() => _open = _pool.Count > 0 ? _pool.Pop() : new CommandBatch(this);
}
