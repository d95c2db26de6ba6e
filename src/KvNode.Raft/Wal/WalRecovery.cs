using System.Diagnostics.CodeAnalysis;

namespace KvNode.Raft.Wal;

/// <summary>
/// Finds where a log ends after a crash, and why it is safe to cut there.
/// </summary>
/// <remarks>
/// The rule: in front of the log's end a disk holds only zero sectors, and a segment is begun only when the one before
/// is synced. So a power loss can leave, from the first unsynced frame on, any mix of written and zero sectors, and
/// nothing else. A broken frame is a torn tail when it looks like that and no later frame says that this one had been
/// synced. Everything else is damage, and the log is refused: cutting there could drop acknowledged entries.
/// </remarks>
internal sealed class WalRecovery
{
    public const int WindowBytes = 4 << 20;

    private readonly IDisk _disk;
    private readonly WalImage _image = new();
    private readonly List<long> _frameOffsets = [];
    private byte[] _window = [];
    private ulong _indexMax;

    private WalRecovery(IDisk disk) => _disk = disk;

    /// <summary>Reads and checks the whole log. Changes nothing.</summary>
    /// <exception cref="LogCorruptException">The log is damaged.</exception>
    public static WalImage Inspect(IDisk disk)
    {
        var recovery = new WalRecovery(disk);
        recovery.InspectAll();
        return recovery._image;
    }

    /// <summary>Memory for reading a segment in few steps, small for a small one.</summary>
    public static byte[] WindowFor(long fileBytes, byte[] present)
    {
        var bytes = (int)Math.Clamp(WalFormat.RoundUpToSector(fileBytes), WalFormat.SectorBytes, WindowBytes);
        return bytes <= present.Length ? present : GC.AllocateUninitializedArray<byte>(bytes);
    }

    private void InspectAll()
    {
        var ids = ListSegments();
        for (var i = 0; i < ids.Count; i++)
        {
            if (ids[i] != ids[0] + (ulong)i)
            {
                Refuse(WalFormat.SegmentName(ids[0] + (ulong)i), 0, "the segment is missing");
            }

            using var file = _disk.Open(WalFormat.SegmentName(ids[i]), readOnly: true);
            _window = WindowFor(file.Length, _window);
            if (TryReadHeader(file, ids[i], out var header))
            {
                InspectUsed(file, ids[i], header);
            }
            else
            {
                InspectBlank(file, ids[i]);
            }
        }

        if (_image.Used.Count == 0 && _image.Blank.Count > 0 && _image.Blank[0].Id != 1)
        {
            Refuse(WalFormat.SegmentName(_image.Blank[0].Id), 0, "all segments before this blank one are missing");
        }
    }

    private List<ulong> ListSegments()
    {
        var ids = new List<ulong>();
        foreach (var name in _disk.List())
        {
            if (WalFormat.TryParseName(name, WalFormat.SegmentSuffix, out var id))
            {
                ids.Add(id);
            }
            else if (WalFormat.TryParseName(name, WalFormat.SpareSuffix, out id))
            {
                _image.Spares.Add(id);
            }
            else if (WalFormat.TryParseName(name, WalFormat.DraftSuffix, out id))
            {
                _image.Drafts.Add(id);
            }
        }

        ids.Sort();
        return ids;
    }

    /// <summary>False: the segment is blank.</summary>
    private bool TryReadHeader(IDiskFile file, ulong id, out SegmentHeader header)
    {
        header = default;
        Span<byte> sector = stackalloc byte[WalFormat.SectorBytes];
        if (file.Read(0, sector) < sector.Length || WalFormat.IsZero(sector))
        {
            return false;
        }

        var name = WalFormat.SegmentName(id);
        if (!SegmentHeader.TryDecode(sector, out header, out var reason))
        {
            Refuse(name, 0, reason);
        }

        if (header.SegmentId != id)
        {
            Refuse(name, 0, $"this is segment {header.SegmentId:x16}");
        }

        if (_image.Blank.Count > 0)
        {
            Refuse(
                WalFormat.SegmentName(_image.Blank[0].Id),
                0,
                "the segment header is gone, but later segments are in use");
        }

        return true;
    }

    private void InspectUsed(IDiskFile file, ulong id, in SegmentHeader header)
    {
        if (_image.Used.Count == 0)
        {
            _image.LogId = header.LogId;
            _image.State = header.Before;
            _image.Map.Restart(header.Previous);
            _image.NextSequence = header.FirstSequence;
            _image.Chain = header.Chain;
        }
        else
        {
            CheckContinues(header);
        }

        var reader = new SegmentReader(file, header, _window);
        _indexMax = 0;
        var status = ReadFrames(reader, id);
        var end = reader.Offset;
        _image.NextSequence = reader.NextSequence;
        _image.Chain = reader.Chain;
        _image.End = end;
        _image.UnprovenFrom = FirstUnproven(reader, header);
        _image.DirtyEnd = FindDirtyEnd(file, id, end);
        _image.TornTail = status == FrameStatus.Torn
            ? Describe(WalFormat.SegmentName(id), end, reader.Reason)
            : _image.DirtyEnd > end
                ? Describe(WalFormat.SegmentName(id), end, "a frame's first sector was never written")
                : null;
        _image.Used.Add(new UsedSegment(id, file.Length, header, _indexMax));
    }

    /// <summary>
    /// The segment before was synced before this one was begun, so it must end exactly where this one says.
    /// </summary>
    private void CheckContinues(in SegmentHeader header)
    {
        if (header.LogId != _image.LogId)
        {
            Refuse(WalFormat.SegmentName(header.SegmentId), 0, "the segment belongs to another log");
        }

        if (header.FirstSequence != _image.NextSequence || header.Chain != _image.Chain
            || header.Before != _image.State)
        {
            var before = _image.Used[^1];
            Refuse(
                WalFormat.SegmentName(before.Id),
                _image.End,
                $"the log ends here at entry {_image.Last}, but the next segment continues entry {header.Previous}");
        }
    }

    private FrameStatus ReadFrames(SegmentReader reader, ulong id)
    {
        _frameOffsets.Clear();
        while (true)
        {
            var offset = reader.Offset;
            switch (reader.ReadFrame())
            {
                case FrameStatus.Sound:
                    _frameOffsets.Add(offset);
                    _image.Frames++;
                    ReadRecords(reader, id, offset);
                    break;
                case FrameStatus.NeedsRefill:
                    reader.Refill();
                    break;
                case FrameStatus.Rotten:
                    Refuse(WalFormat.SegmentName(id), offset, reader.Reason);
                    break;
                case var status:
                    return status;
            }
        }
    }

    private void ReadRecords(SegmentReader reader, ulong id, long offset)
    {
        var rest = reader.Payload;
        for (var i = 0; i < reader.Header.RecordCount; i++)
        {
            if (!WalRecord.TryDecode(ref rest, out var record))
            {
                Refuse(WalFormat.SegmentName(id), offset, "a record in this frame is of an unknown kind");
            }

            if (_image.State.After(record, out var refusal) is not { } state
                || !IsTermKnown(record, out refusal))
            {
                Refuse(WalFormat.SegmentName(id), offset, refusal);
                return;
            }

            _image.State = state;
            _image.Map.Apply(record, id, offset, i);
            if (record.Kind == RecordKind.Entry)
            {
                _image.EntriesWritten++;
                _indexMax = Math.Max(_indexMax, record.Id.Index);
            }
            else if (record.Kind == RecordKind.SnapshotMarker)
            {
                _image.Marker = new MarkerPlace(record.Id.Index, id, reader.Header.Sequence);
            }
        }

        if (!rest.IsEmpty)
        {
            Refuse(WalFormat.SegmentName(id), offset, "the frame has more bytes than records");
        }
    }

    /// <summary>
    /// A truncation repeats the term of the entry before it, which must be that entry's, unless it has been given up.
    /// </summary>
    private bool IsTermKnown(in WalRecord record, out string refusal)
    {
        var known = record.Kind != RecordKind.Truncate
            || !_image.Map.TryTerm(record.Id.Index - 1, out var term)
            || term == record.Id.Term;
        refusal = known ? "" : $"entries from {record.Id.Index} on are made void after one of a term it does not have";
        return known;
    }

    private long FirstUnproven(SegmentReader reader, in SegmentHeader header)
    {
        if (_frameOffsets.Count == 0)
        {
            return 0;
        }

        // All before this segment was synced when it was begun; the header itself goes with the first frame.
        var first = Math.Max(reader.Header.DurableSequence + 1, header.FirstSequence) - header.FirstSequence;
        return first == 0 ? 0 : _frameOffsets[(int)first];
    }

    private void InspectBlank(IDiskFile file, ulong id)
    {
        var dirtyEnd = FindDirtyEnd(file, id, 0);
        _image.Blank.Add(new BlankSegment(id, file.Length, dirtyEnd));
        if (dirtyEnd > 0)
        {
            if (_image.TornTail is not null)
            {
                Refuse(
                    WalFormat.SegmentName(id), 0, $"this segment was begun, which cannot be after {_image.TornTail}");
            }

            _image.TornTail = Describe(
                WalFormat.SegmentName(id), 0, "the first frame of a segment was never wholly written");
        }
    }

    /// <summary>
    /// Where the last non-zero byte behind the log's end stops; refuses the log if something there proves that the
    /// frame missing at the end had been synced.
    /// </summary>
    private long FindDirtyEnd(IDiskFile file, ulong id, long from)
    {
        var dirtyEnd = from;
        for (var offset = from; ;)
        {
            var count = file.Read(offset, _window);
            var chunk = _window.AsSpan(0, count);
            if (!WalFormat.IsZero(chunk))
            {
                dirtyEnd = Math.Max(dirtyEnd, InspectDirty(chunk, id, offset, from));
            }

            if (count < _window.Length)
            {
                return dirtyEnd;
            }

            offset += count;
        }
    }

    private long InspectDirty(ReadOnlySpan<byte> chunk, ulong id, long chunkOffset, long logEnd)
    {
        var dirtyEnd = 0L;
        for (var i = 0; i < chunk.Length; i += WalFormat.SectorBytes)
        {
            var sector = chunk.Slice(i, Math.Min(WalFormat.SectorBytes, chunk.Length - i));
            if (WalFormat.IsZero(sector))
            {
                continue;
            }

            dirtyEnd = chunkOffset + i + sector.Length;
            if (sector.Length == WalFormat.SectorBytes
                && FrameHeader.TryDecode(sector, out var header, out _)
                && header.SegmentId == id
                && header.Place == (chunkOffset + i) / WalFormat.SectorBytes
                && (_image.Used.Count == 0 || header.LogId == _image.LogId)
                && header.DurableSequence >= _image.NextSequence)
            {
                Refuse(
                    WalFormat.SegmentName(id),
                    logEnd,
                    $"the frame here is broken, but one at byte {chunkOffset + i} was written after it was durable");
            }
        }

        return dirtyEnd;
    }

    private string Describe(string name, long offset, string reason) =>
        $"{Path.Combine(_disk.Location, name)} at byte {offset}: {reason}";

    [DoesNotReturn]
    private void Refuse(string name, long offset, string reason) =>
        throw new LogCorruptException($"the log is damaged: {Describe(name, offset, reason)}");
}
