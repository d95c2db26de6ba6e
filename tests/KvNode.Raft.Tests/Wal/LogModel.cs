using KvNode.Raft.Wal;

namespace KvNode.Raft.Tests;

/// <summary>What a log means, written down as plainly as can be: the tests compare the real one with it.</summary>
internal sealed class LogModel
{
    public EntryId BeforeFirst { get; private set; }

    public List<WalRecord> Entries { get; } = [];

    public HardState State { get; private set; }

    public ulong Commit { get; private set; }

    public EntryId Last => Entries.Count == 0 ? BeforeFirst : Entries[^1].Id;

    public void Apply(in WalRecord record)
    {
        var id = record.Id;
        switch (record.Kind)
        {
            case RecordKind.Entry:
                Entries.Add(record with { Payload = record.Payload.ToArray() });
                break;
            case RecordKind.HardState:
                State = new HardState(id.Term, id.Index);
                break;
            case RecordKind.Truncate:
                _ = Entries.RemoveAll(entry => entry.Id.Index >= id.Index);
                break;
            case RecordKind.SnapshotMarker:
                Entries.Clear();
                BeforeFirst = id;
                Commit = id.Index;
                break;
            default:
                Commit = Math.Max(Commit, id.Index);
                break;
        }
    }

    public List<WalRecord> Between(ulong after, ulong through) =>
        [.. Entries.Where(entry => entry.Id.Index > after && entry.Id.Index <= through)];

    /// <summary>The term of an entry that is in the model, or of the one before its first.</summary>
    public ulong TermOf(ulong index) =>
        index == BeforeFirst.Index ? BeforeFirst.Term : Entries.Single(entry => entry.Id.Index == index).Id.Term;

    /// <summary>The first entry of each run of equal terms behind an index.</summary>
    public List<EntryId> TermRuns(ulong after)
    {
        var runs = new List<EntryId>();
        foreach (var entry in Between(after, ulong.MaxValue))
        {
            if (runs.Count == 0 || runs[^1].Term != entry.Id.Term)
            {
                runs.Add(entry.Id);
            }
        }

        return runs;
    }
}
