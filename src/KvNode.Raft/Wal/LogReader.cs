using System.Buffers;
using KvNode.Raft.Core;

namespace KvNode.Raft.Wal;

/// <summary>
/// Reads entries back while others append, cut, roll and retire. Any thread, many at a time.
/// </summary>
/// <param name="gate">Covers the map and what <paramref name="firstSegment"/> looks at. Not held while files are read.</param>
/// <param name="map">Where the entries are.</param>
/// <param name="firstSegment">The oldest segment not given up; called under the gate.</param>
internal sealed class LogReader(IDisk disk, ulong logId, Lock gate, LogMap map, Func<ulong> firstSegment)
{
    private const int WindowBytes = 128 << 10;

    /// <summary>See <see cref="WriteAheadLog.ReadEntries"/>.</summary>
    public List<LogEntry> Read(ulong first, ulong last, long bytesMax)
    {
        List<LogPiece> pieces;
        int generation;
        lock (gate)
        {
            generation = map.Generation;
            pieces = map.Find(first, last);
        }

        var entries = new List<LogEntry>();
        if (pieces.Count == 0)
        {
            return entries;
        }

        var budget = bytesMax;
        var window = ArrayPool<byte>.Shared.Rent(WindowBytes);
        try
        {
            foreach (var piece in pieces)
            {
                if (!TryRead(piece, first, ref budget, window, entries))
                {
                    break;
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(window);
        }

        DropVoided(entries, generation);
        return entries;
    }

    /// <summary>False: enough, or the rest has been given up.</summary>
    private bool TryRead(LogPiece piece, ulong first, ref long budget, byte[] window, List<LogEntry> entries)
    {
        IDiskFile file;
        try
        {
            file = disk.Open(WalFormat.SegmentName(piece.Start.Segment), readOnly: true);
        }
        catch (FileNotFoundException) when (IsGone(piece))
        {
            return false;
        }

        using (file)
        {
            var reader = new PieceReader(file, logId, piece, window);
            while (true)
            {
                switch (reader.Next(out var record))
                {
                    case PieceStatus.NeedsRefill:
                        reader.Refill();
                        break;
                    case PieceStatus.Done:
                        return true;
                    case PieceStatus.Entry when record.Id.Index < first:
                        break;
                    case PieceStatus.Entry:
                        budget -= record.Payload.Length + LogEntry.OverheadBytes;
                        if (budget < 0 && entries.Count > 0)
                        {
                            return false;
                        }

                        entries.Add(new LogEntry(record.Id, record.EntryKind, record.Payload.ToArray()));
                        break;
                    default:
                        // A segment that was given up is filled with zeros while it is still open here.
                        return IsGone(piece) ? false : throw Broken(piece, reader.Offset);
                }
            }
        }
    }

    private bool IsGone(LogPiece piece)
    {
        lock (gate)
        {
            return piece.Start.Segment < firstSegment();
        }
    }

    /// <summary>What was cut off while it was read. The same index and term is the same entry.</summary>
    private void DropVoided(List<LogEntry> entries, int generation)
    {
        lock (gate)
        {
            var sound = generation == map.Generation ? entries.Count : 0;
            while (sound > 0 && entries[sound - 1].Id is var id && !IsCurrent(id))
            {
                sound--;
            }

            entries.RemoveRange(sound, entries.Count - sound);
        }
    }

    private bool IsCurrent(EntryId entry) => entry.Index <= map.BeforeFirst.Index || map.Contains(entry);

    private LogCorruptException Broken(LogPiece piece, long offset) => new(
        $"the log is damaged: {Path.Combine(disk.Location, WalFormat.SegmentName(piece.Start.Segment))} "
        + $"at byte {offset}: a frame that was sound is not any more");
}
