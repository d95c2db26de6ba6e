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
internal sealed class Proposer(IConsensusEngine engine, Executor executor, TimeProvider clock)
{
    private const int PooledBatchesMax = 16;

    private readonly Lock _lock = new();
    private readonly Stack<CommandBatch> _pool = new();
    private CommandBatch? _open;
    private long _leaderMs;
    private long _bytesInFlight;

    /// <summary>True when so much waits for the log that connections must wait before they add more.</summary>
    public bool Overloaded => Volatile.Read(ref _bytesInFlight) > Limits.UncommittedBytesMax;

    /// <summary>The smallest time the next batch may carry: the last one applied. Before the engine starts proposing.</summary>
    public void ObserveLeaderTime(long leaderMs) => _leaderMs = Math.Max(_leaderMs, leaderMs);

    /// <summary>Begins a connection's turn: no other connection's operations come between. Pair with <see cref="EndTurn"/>.</summary>
    public void BeginTurn() => _lock.Enter();

    public void EndTurn() => _lock.Exit();

    /// <summary>Adds a write. Within a turn.</summary>
    public void AddWrite(IReplySink sink, ReadOnlySpan<byte> raw)
    {
        var batch = _open;
        var fits = batch is { Sealed: false } &&
            (batch.PayloadBytes < Limits.EntryBytesSoft && raw.Length < Limits.EntryBytesSoft);
        if (fits)
        {
            batch!.AddWrite(sink, raw);
        }
        else
        {
            batch = _pool.Count > 0 ? _pool.Pop() : new CommandBatch(this);
            batch.AddWrite(sink, raw);
            _open = batch;
            engine.Propose(batch);
        }

        Interlocked.Add(ref _bytesInFlight, raw.Length);
    }

    /// <summary>
    /// Lets a read ride behind the writes before it. Only possible while an entry with writes is open: a batch of
    /// reads alone would be no log entry. Within a turn.
    /// </summary>
    /// <returns>False when the connection must wait for its writes instead.</returns>
    public bool TryAddRead(IReplySink sink, ReadOnlySpan<byte> raw)
    {
        if (_open is not { Sealed: false } batch || batch.HeldBytes > 4 * Limits.EntryBytesSoft)
        {
            return false;
        }

        batch.AddRead(sink, raw);
        Interlocked.Add(ref _bytesInFlight, raw.Length);
        return true;
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

    /// <summary>Writes the replies of a batch that did not commit: the reason for each write, the answer for each read.</summary>
    public void AnswerFailure(CommandBatch batch, ProposalOutcome outcome)
    {
        batch.Replies.Reset();
        executor.AnswerFailure(batch, outcome);
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
}
