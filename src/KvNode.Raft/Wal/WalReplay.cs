namespace KvNode.Raft.Wal;

/// <summary>Receives entries in order. Their payloads are valid during the call.</summary>
internal delegate void ReplaySink(ReadOnlySpan<CommittedEntry> entries);

/// <summary>Reads the entries of an inspected log.</summary>
internal static class WalReplay
{
    private const int SpanEntriesMax = 8192;

    /// <summary>Calls the sink for all entries with an index above <paramref name="after"/>.</summary>
    public static void Run(IDisk disk, WalImage image, ulong after, ReplaySink sink)
    {
        byte[] window = [];
        var entries = new CommittedEntry[SpanEntriesMax];
        foreach (var segment in image.Used)
        {
            if (segment.Last.Index > after)
            {
                window = WalRecovery.WindowFor(segment.Bytes, window);
                ReplaySegment(disk, segment, after, sink, window, entries);
            }
        }
    }

    /// <summary>
    /// The store is never ahead of the log, for it asks for the log's durability first; and the log is given up only as
    /// far as the store is durable.
    /// </summary>
    /// <exception cref="LogCorruptException">One of them is not what it was.</exception>
    public static void CheckFits(WalImage image, EntryId applied)
    {
        if (applied.Index > image.Last.Index)
        {
            throw new LogCorruptException(
                $"the store has applied entry {applied} but the log ends at {image.Last}: the log has lost its end, "
                + "or is not this store's log");
        }

        if (applied.Index < image.BeforeFirst.Index)
        {
            throw new LogCorruptException(
                $"the store has applied entry {applied} but the log begins only at {image.FirstIndex}: the log has "
                + "lost its beginning, or is not this store's log");
        }

        if (applied.Index == image.BeforeFirst.Index && applied.Term != image.BeforeFirst.Term)
        {
            RefuseTerm(applied, image.BeforeFirst);
        }
    }

    /// <summary>
    /// As <see cref="Run"/>, from the entry after the last applied one, which must be in the log as it is here.
    /// </summary>
    /// <exception cref="LogCorruptException">The log has another entry in its place.</exception>
    public static void RunAfter(IDisk disk, WalImage image, EntryId applied, ReplaySink sink)
    {
        CheckFits(image, applied);
        if (applied.Index == image.BeforeFirst.Index)
        {
            Run(disk, image, applied.Index, sink);
            return;
        }

        var compared = false;
        Run(disk, image, applied.Index - 1, entries =>
        {
            if (!compared)
            {
                compared = true;
                if (entries[0].Id != applied)
                {
                    RefuseTerm(applied, entries[0].Id);
                }

                entries = entries[1..];
            }

            if (!entries.IsEmpty)
            {
                sink(entries);
            }
        });
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private static void RefuseTerm(EntryId applied, EntryId inLog) => throw new LogCorruptException(
        $"the store has applied entry {applied} but the log has {inLog} there: it is not this store's log");

    private static void ReplaySegment(
        IDisk disk, in UsedSegment segment, ulong after, ReplaySink sink, byte[] window, CommittedEntry[] entries)
    {
        using var file = disk.Open(WalFormat.SegmentName(segment.Id), readOnly: true);
        var reader = new SegmentReader(file, segment.Header, window);
        var count = 0;
        var done = segment.Header.Previous;
        while (done != segment.Last)
        {
            var status = reader.ReadFrame();
            if (status == FrameStatus.NeedsRefill)
            {
                Flush(entries, ref count, sink);
                reader.Refill();
                continue;
            }

            if (status != FrameStatus.Sound)
            {
                throw new LogCorruptException(
                    $"the log changed while it was read: {WalFormat.SegmentName(segment.Id)} at byte {reader.Offset}");
            }

            var rest = reader.Payload;
            while (WalRecord.TryDecode(ref rest, out var record))
            {
                if (record.Kind != RecordKind.Entry)
                {
                    continue;
                }

                done = record.Id;
                if (done.Index > after)
                {
                    entries[count++] = new CommittedEntry(done, record.EntryKind, record.Payload, Batch: null);
                    if (count == entries.Length)
                    {
                        Flush(entries, ref count, sink);
                    }
                }
            }
        }

        Flush(entries, ref count, sink);
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
