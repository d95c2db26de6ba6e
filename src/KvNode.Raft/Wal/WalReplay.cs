namespace KvNode.Raft.Wal;

/// <summary>Receives entries in order. Their payloads are valid during the call.</summary>
internal delegate void ReplaySink(ReadOnlySpan<CommittedEntry> entries);

/// <summary>Reads the entries of a log in large steps, as a restart does.</summary>
internal static class WalReplay
{
    private const int SpanEntriesMax = 8192;

    /// <summary>Calls the sink for all entries with an index above <paramref name="after"/>.</summary>
    public static void Run(IDisk disk, WalImage image, ulong after, ReplaySink sink) =>
        Run(disk, image.LogId, image.Map, after, ulong.MaxValue, sink);

    /// <summary>
    /// Calls the sink for all entries above one index and up to another. Entries that were made void never reach it.
    /// </summary>
    /// <exception cref="LogCorruptException">The log is not as it was when the map was made.</exception>
    public static void Run(IDisk disk, ulong logId, LogMap map, ulong after, ulong through, ReplaySink sink)
    {
        byte[] window = [];
        var entries = new CommittedEntry[SpanEntriesMax];
        var first = Math.Max(after, map.BeforeFirst.Index) + 1;
        foreach (var piece in map.Find(first, through))
        {
            using var file = disk.Open(WalFormat.SegmentName(piece.Start.Segment), readOnly: true);
            window = WalRecovery.WindowFor(file.Length - piece.Start.Offset, window);
            ReplayPiece(new PieceReader(file, logId, piece, window), piece, first, sink, entries);
        }
    }

    /// <summary>
    /// The store is never ahead of the log, for it asks for the log's durability first; and the log is given up only as
    /// far as the store is durable.
    /// </summary>
    /// <exception cref="LogCorruptException">One of them is not what it was.</exception>
    public static void CheckFits(LogMap map, EntryId applied)
    {
        if (applied.Index > map.Last.Index)
        {
            throw new LogCorruptException(
                $"the store has applied entry {applied} but the log ends at {map.Last}: the log has lost its end, "
                + "or is not this store's log");
        }

        if (!map.TryTerm(applied.Index, out var term))
        {
            throw new LogCorruptException(
                $"the store has applied entry {applied} but the log begins only at {map.BeforeFirst.Index + 1}: the log "
                + "has lost its beginning, or is not this store's log");
        }

        if (applied.Term != term)
        {
            throw new LogCorruptException(
                $"the store has applied entry {applied} but the log has {new EntryId(term, applied.Index)} there: "
                + "it is not this store's log");
        }
    }

    private static void ReplayPiece(
        PieceReader reader, LogPiece piece, ulong first, ReplaySink sink, CommittedEntry[] entries)
    {
        var count = 0;
        while (true)
        {
            switch (reader.Next(out var record))
            {
                case PieceStatus.Entry when record.Id.Index < first:
                    break;
                case PieceStatus.Entry:
                    entries[count++] = new CommittedEntry(record.Id, record.EntryKind, record.Payload, Batch: null);
                    if (count == entries.Length)
                    {
                        Flush(entries, ref count, sink);
                    }

                    break;
                case PieceStatus.NeedsRefill:
                    Flush(entries, ref count, sink);
                    reader.Refill();
                    break;
                case PieceStatus.Done:
                    Flush(entries, ref count, sink);
                    return;
                default:
                    throw new LogCorruptException(
                        $"the log changed while it was read: {WalFormat.SegmentName(piece.Start.Segment)} "
                        + $"at byte {reader.Offset}");
            }
        }
    }

    private static void Flush(CommittedEntry[] entries, ref int count, ReplaySink sink)
    {
        if (count > 0)
        {
            sink(entries.AsSpan(0, count));
            entries.AsSpan(0, count).Clear();
            count = 0;
        }
    }
}
