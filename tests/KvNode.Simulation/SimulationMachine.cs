using KvNode.Raft;
using KvNode.Raft.Wal;

namespace KvNode.Simulation;

/// <summary>
/// The state machine of one node: in memory, with a durable copy that lags behind and to which a crash goes back.
/// </summary>
internal sealed class SimulationMachine(Ledger ledger, int node, SimulationDisk disk, Action noteCommits) : IReplicatedStateMachine
{
    private readonly MapState _state = new();
    private readonly MapState _durableState = new();
    private byte[] _engineState = [];
    private byte[] _durableEngineState = [];

    /// <inheritdoc/>
    public EntryId Durable { get; private set; }

    /// <inheritdoc/>
    public ReadOnlyMemory<byte> EngineState => _durableEngineState;

    /// <inheritdoc/>
    public EntryId InstalledAt { get; private set; }

    /// <summary>The last entry applied.</summary>
    public EntryId Applied { get; private set; }

    public ulong Digest => _state.Digest;

    /// <summary>The log of this life; null during the start.</summary>
    public WriteAheadLog? Log { get; set; }

    public string? WriteRefusal { get; set; }

    public bool ApplyMayWait => false;

    public bool IsLong(ReadOnlySpan<byte> payload) => false;

    public string? Check(ReadOnlySpan<byte> payload) => null;

    public long StateBytes => 0;

    /// <summary>A new life begins with what is durable.</summary>
    public void Reopen()
    {
        _state.CopyFrom(_durableState);
        _engineState = _durableEngineState;
        Applied = Durable;
        Log = null;
        WriteRefusal = null;
    }

    /// <inheritdoc/>
    public void Apply(ReadOnlySpan<CommittedEntry> entries, ReadOnlySpan<byte> engineState)
    {
        foreach (ref readonly var entry in entries)
        {
            if (entry.Id != Applied)
            {
                Expect.That(
                    entry.Id.Index == Applied.Index + 1,
                    "apply order",
                    $"node {node} applies {entry.Id} after {Applied}");
                Applied = entry.Id;
                noteCommits();
                ledger.OnApplied(node, entry.Id);
                Expect.That(
                    Log is null || entry.Id.Index <= Log.DurableIndex,
                    "apply before durable",
                    $"node {node} applies {entry.Id}, durable is {Log?.DurableIndex}");
            }

            Execute(entry);
        }

        if (_engineState.Length != engineState.Length)
        {
            _engineState = new byte[engineState.Length];
        }
        else if (ReferenceEquals(_engineState, _durableEngineState))
        {
            _engineState = [.. _engineState];
        }

        engineState.CopyTo(_engineState);
        ledger.OnApplyEnd(node, Applied.Index, _state.Digest, engineState);
    }

    /// <inheritdoc/>
    public void Read(ReadOnlySpan<ProposalBatch> batches)
    {
        foreach (var batch in batches)
        {
            Read((CommandBatch)batch, Applied.Index, Applied.Index);
        }
    }

    /// <summary>One command that needs no log.</summary>
    public void ReadHere(Command command)
    {
        _state.Execute(command.Kind, command.Mask, 0, command);
        command.SeenIndex = command.TouchedIndex = Applied.Index;
    }

    /// <inheritdoc/>
    public ISnapshotReader OpenSnapshot() => throw new NotSupportedException("the simulation copies images");

    /// <inheritdoc/>
    public ISnapshotWriter CreateRestore(SnapshotMeta meta) =>
        throw new NotSupportedException("the simulation copies images");

    /// <inheritdoc/>
    public void Checkpoint()
    {
        if (Durable == Applied)
        {
            return;
        }

        Log?.EnsureDurable(Applied.Index);
        disk.Touch();
        _durableState.CopyFrom(_state);
        _durableEngineState = _engineState;
        Durable = Applied;
    }

    /// <summary>What a snapshot holds.</summary>
    public MachineImage Image()
    {
        var state = new MapState();
        state.CopyFrom(_state);
        return new MachineImage(Applied, state, [.. _engineState]);
    }

    /// <summary>Takes over another node's state, at once and durably.</summary>
    public void Install(MachineImage image)
    {
        disk.Touch();
        ledger.OnInstalled(node, image.Position);
        _state.CopyFrom(image.State);
        _durableState.CopyFrom(image.State);
        _engineState = _durableEngineState = [.. image.EngineState];
        Applied = Durable = InstalledAt = image.Position;
        ledger.OnApplyEnd(node, Applied.Index, _state.Digest, _engineState);
    }

    private void Execute(in CommittedEntry entry)
    {
        var batch = (CommandBatch?)entry.Batch;
        if (entry.Kind != EntryKind.Normal)
        {
            return;
        }

        if (entry.Payload.IsEmpty)
        {
            Read(batch!, entry.Id.Index - 1, entry.Id.Index);
            return;
        }

        var number = CommandBatch.NumberOf(entry.Payload.Span);
        ledger.OnExecuted(node, number, entry.Id.Index);
        Expect.That(
            batch is null || batch.Number == number,
            "crossed replies",
            $"node {node} answers batch {batch?.Number} with the execution of {number}");
        CommandBatch.Execute(entry.Payload.Span, _state, batch);
        foreach (var command in batch?.Commands ?? [])
        {
            command.SeenIndex = command.TouchedIndex = entry.Id.Index;
        }
    }

    private void Read(CommandBatch batch, ulong seen, ulong touched)
    {
        foreach (var command in batch.Commands)
        {
            Expect.That(command.IsRead, "batches", "a write among the reads");
            _state.Execute(command.Kind, command.Mask, 0, command);
            command.SeenIndex = seen;
            command.TouchedIndex = touched;
        }
    }
}

/// <summary>A state machine's whole state at a position.</summary>
internal sealed record MachineImage(EntryId Position, MapState State, byte[] EngineState);
