namespace KvNode.Raft.Wal;

/// <summary>What a log says at one point of it, without its entries.</summary>
/// <param name="Last">The last entry.</param>
/// <param name="Commit">Entries up to this index are known to be committed. Written lazily, so it may be old; never
/// more than Last's index.</param>
internal readonly record struct LogState(EntryId Last, HardState HardState, ulong Commit)
{
    /// <summary>
    /// The state after one more record; null and a reason for people when the record cannot follow. Whether the term
    /// that a truncation names is right, is for the caller to know.
    /// </summary>
    public LogState? After(in WalRecord record, out string refusal)
    {
        refusal = record.Kind switch
        {
            RecordKind.HardState when record.Id.Term < HardState.Term => "the term goes back",
            RecordKind.Entry when record.Id.Index != Last.Index + 1 || record.Id.Term < Last.Term =>
                $"entry {record.Id} cannot follow {Last}",
            RecordKind.Truncate when record.Id.Index > Last.Index + 1 || record.Id.Index == 0
                || record.Id.Term > Last.Term =>
                $"entries from {record.Id.Index} on are made void, but the log ends at {Last}",
            RecordKind.Truncate when record.Id.Index <= Commit =>
                $"entries from {record.Id.Index} on are made void, but those up to {Commit} are committed",
            RecordKind.SnapshotMarker when record.Id.Index < Commit =>
                $"a snapshot of {record.Id} replaces the log, but entries up to {Commit} are committed",
            RecordKind.Commit when record.Id.Index > Last.Index =>
                $"entry {record.Id.Index} is called committed, but the log ends at {Last}",
            _ => "",
        };
        if (refusal.Length > 0)
        {
            return null;
        }

        return record.Kind switch
        {
            RecordKind.Entry => this with { Last = record.Id },
            RecordKind.HardState => this with { HardState = new HardState(record.Id.Term, record.Id.Index) },
            RecordKind.Truncate => this with { Last = new EntryId(record.Id.Term, record.Id.Index - 1) },
            RecordKind.SnapshotMarker => this with { Last = record.Id, Commit = record.Id.Index },
            // What was committed once stays so, whatever a restarted node still has to learn again.
            _ => this with { Commit = Math.Max(Commit, record.Id.Index) },
        };
    }
}
