using System.Runtime.InteropServices;
using KvNode.Raft.Wal;

namespace KvNode.Raft.SingleVoter;

/// <summary>
/// What the log's thread gathers for one frame: proposals in order, each with how it ended. Reused by one thread.
/// </summary>
internal sealed class Turn
{
    private readonly List<WalRecord> _records = [];
    private readonly List<CommittedEntry> _entries = [];
    private readonly List<ProposalOutcome> _outcomes = [];

    /// <summary>Payload in it.</summary>
    public long Bytes { get; private set; }

    public int Count => _entries.Count;

    public ReadOnlySpan<WalRecord> Records => CollectionsMarshal.AsSpan(_records);

    public ReadOnlySpan<CommittedEntry> Entries => CollectionsMarshal.AsSpan(_entries);

    /// <summary>One for each of <see cref="Entries"/>.</summary>
    public ReadOnlySpan<ProposalOutcome> Outcomes => CollectionsMarshal.AsSpan(_outcomes);

    public void AddEntry(EntryId id, EntryKind kind, ReadOnlyMemory<byte> payload, ProposalBatch? batch)
    {
        _records.Add(WalRecord.Entry(id, kind, payload));
        Add(new CommittedEntry(id, kind, payload, batch), new ProposalOutcome(ProposalStatus.Committed));
    }

    public void AddHardState(HardState state) => _records.Add(WalRecord.Of(state));

    /// <summary>A proposal that gets no entry.</summary>
    public void AddDropped(ProposalBatch batch, string reason) =>
        Add(new CommittedEntry(default, EntryKind.Normal, default, batch), Dropped(reason));

    /// <summary>Nothing of this turn reached the log.</summary>
    public void DropAll(string reason)
    {
        foreach (ref var outcome in CollectionsMarshal.AsSpan(_outcomes))
        {
            outcome = outcome.Status == ProposalStatus.Committed ? Dropped(reason) : outcome;
        }

        _records.Clear();
    }

    public void Clear()
    {
        _records.Clear();
        _entries.Clear();
        _outcomes.Clear();
        Bytes = 0;
    }

    private static ProposalOutcome Dropped(string reason) => new(ProposalStatus.Dropped, Reason: reason);

    private void Add(in CommittedEntry entry, in ProposalOutcome outcome)
    {
        _entries.Add(entry);
        _outcomes.Add(outcome);
        Bytes += entry.Payload.Length;
    }
}
