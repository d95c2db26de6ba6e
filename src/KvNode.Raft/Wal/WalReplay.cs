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
