using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class WalFormatTests
{
    private const string LogId = "8877665544332211";

    [Fact]
    public void NumbersOnDiskNeverChange()
    {
        Assert.Equal(1, (int)RecordKind.Entry);
        Assert.Equal(2, (int)RecordKind.HardState);
        Assert.Equal(3, (int)RecordKind.Truncate);
        Assert.Equal(4, (int)RecordKind.SnapshotMarker);
        Assert.Equal(5, (int)RecordKind.Commit);
        Assert.Equal(1, (int)EntryKind.Normal);
        Assert.Equal(2, (int)EntryKind.Empty);
        Assert.Equal(3, (int)EntryKind.Configuration);
        Assert.Equal("0000000000000a1b.wal", WalFormat.SegmentName(0xa1b));
        Assert.Equal("KVNODWAL"u8, BitConverter.GetBytes(WalFormat.SegmentMagic));
        Assert.Equal("KVFR"u8, BitConverter.GetBytes(WalFormat.FrameMagic));
        Assert.Equal("END!"u8, BitConverter.GetBytes(WalFormat.EndMark));
    }

    [Fact]
    public void ChecksumsAreCrc32C()
    {
        // RFC 3720 B.4.
        Assert.Equal(0x8A91_36AAu, Crc32C.Compute(new byte[32]));
        Assert.Equal(0x62A8_AB43u, Crc32C.Compute(Enumerable.Repeat((byte)0xFF, 32).ToArray()));
        Assert.Equal(0x46DD_794Eu, Crc32C.Compute(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray()));
        Assert.Equal(0xE306_9283u, Crc32C.Compute("123456789"u8));
    }

    [Fact]
    public void SectorChecksumsAreThoseOfEachSectorAlone()
    {
        var random = new Random(1);
        for (var count = 0; count < 14; count++)
        {
            var sectors = new byte[count * 512];
            random.NextBytes(sectors);
            var crcs = new uint[count];
            Crc32C.ComputeSectors(sectors, crcs);
            for (var i = 0; i < count; i++)
            {
                Assert.Equal(Crc32C.Compute(sectors.AsSpan(i * 512, 512)), crcs[i]);
            }
        }
    }

    /// <summary>PERSISTED: a change here needs a new format version and a reader for this one.</summary>
    [Fact]
    public void TheFirstKilobyteOfALogIsAsItAlwaysWas()
    {
        var disk = new SimDisk();
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 0x1122_3344_5566_7788))
        {
            log.Append(
            [
                WalRecord.Of(new HardState(3, 1)),
                WalRecord.SnapshotMarker(new EntryId(2, 6)),
                WalRecord.Entry(new EntryId(3, 7), EntryKind.Normal, "hello"u8.ToArray()),
                WalRecord.Truncate(7),
                WalRecord.Entry(new EntryId(4, 7), EntryKind.Configuration, "you"u8.ToArray()),
                WalRecord.Commit(7),
            ]);
        }

        var content = disk.Raw(WalFormat.SegmentName(1));
        AssertHex("4B564E4F4457414C" + "02000000" + "00000000" + LogId + "0100000000000000" + "0100000000000000", content, 0);
        AssertHex(new string('0', 2 * 468), content, 40);
        AssertHex("4B564652" + "02000000" + LogId + "0100000000000000" + "0100000000000000", content, 512);
        AssertHex("0000000000000000" + "0000000000000000" + "00000000" + "9C000000" + "06000000", content, 544);
        AssertHex("01000000", content, 512 + 64);
        AssertHex(
            "02000000" + "00000000" + "0100000000000000" + "0300000000000000"
            + "04000000" + "00000000" + "0600000000000000" + "0200000000000000"
            + "01010000" + "05000000" + "0700000000000000" + "0300000000000000" + "68656C6C6F"
            + "03000000" + "00000000" + "0700000000000000" + "0200000000000000"
            + "01030000" + "03000000" + "0700000000000000" + "0400000000000000" + "796F75"
            + "05000000" + "00000000" + "0700000000000000" + "0000000000000000" + "454E4421",
            content,
            512 + 72);
        AssertHex(new string('0', 2 * 284), content, 512 + 72 + 156);
        AssertHex("ABFDF62E", content, 508);
        AssertHex("B9A2B194", content, 512 + 60);
        AssertHex("B4D5E63B", content, 512 + 68);
    }

    [Fact]
    public void ASegmentsHeaderRepeatsWhatTheLogWasBeforeIt()
    {
        var sector = new byte[512];
        var before = new LogState(new EntryId(4, 7), new HardState(5, 3), Commit: 6);
        new SegmentHeader(0x1122_3344_5566_7788, 9, 12, before, 0xAABBCCDD).Encode(sector);
        AssertHex(
            "4B564E4F4457414C" + "02000000" + "DDCCBBAA" + LogId + "0900000000000000" + "0C00000000000000"
            + "0700000000000000" + "0400000000000000" + "0500000000000000" + "0300000000000000" + "0600000000000000",
            sector,
            0);
        AssertHex(new string('0', 2 * 428), sector, 80);
        Assert.True(SegmentHeader.TryDecode(sector, out var header, out _));
        Assert.Equal(before, header.Before);
    }

    /// <summary>A log of version 1, byte by byte as the program before wrote it.</summary>
    [Fact]
    public void ALogOfVersionOneIsReadAndContinued()
    {
        var content = new byte[WalRig.SmallSegments.SegmentBytes];
        PutHex("4B564E4F4457414C" + "01000000" + "00000000" + LogId + "0100000000000000" + "0100000000000000", content, 0);
        PutHex("42F8BEB0", content, 508);
        PutHex("4B564652" + "01000000" + LogId + "0100000000000000" + "0100000000000000", content, 512);
        PutHex("39000000" + "02000000" + "E02C1E5E" + "01000000" + "AEFB9603", content, 512 + 52);
        PutHex(
            "02000000" + "00000000" + "0100000000000000" + "0300000000000000"
            + "01010000" + "05000000" + "0100000000000000" + "0300000000000000" + "68656C6C6F" + "454E4421",
            content,
            512 + 72);
        var disk = new SimDisk();
        disk.SetRaw(WalFormat.SegmentName(1), content);

        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1))
        {
            Assert.Equal(new EntryId(3, 1), log.Image.Last);
            Assert.Equal(new HardState(3, 1), log.Image.HardState);
            Assert.Equal(0UL, log.Image.Commit);
            Assert.Equal("hello"u8, log.LoadTail(1)[0].Payload.Span);
            log.Append([WalRecord.Commit(1), WalRecord.Entry(new EntryId(3, 2), EntryKind.Normal, new byte[7000])]);
            log.Append([WalRecord.Entry(new EntryId(3, 3), EntryKind.Normal, new byte[7000])]);
            log.Sync();
        }

        var image = WalRecovery.Inspect(disk);
        Assert.Equal(new EntryId(3, 3), image.Last);
        Assert.Equal(1UL, image.Commit);
        Assert.Equal(3, image.Used.Count);
    }

    [Fact]
    public void ALayoutHasRoomForEverySectorsChecksumAndIsNeverLargerThanNeeded()
    {
        var sizes = Enumerable.Range(4, 200_000).Append(WalFormat.FramePayloadBytesMax).Append(WalFormat.EntryBytesMax);
        foreach (var payload in sizes)
        {
            var layout = FrameLayout.For(payload);
            Assert.True(layout.BodySectors <= layout.TableEntries);
            Assert.True(layout.TableEntries - layout.BodySectors <= 1);
            var end = (long)layout.PayloadOffset + payload;
            Assert.InRange((layout.Sectors * 512L) - end, 0, 511);
            Assert.InRange((layout.HeadSectors * 512) - layout.PayloadOffset, 0, 511);
        }
    }

    [Fact]
    public void AFrameGivesBackItsRecords()
    {
        for (var seed = 0; seed < 400; seed++)
        {
            var random = new Random(seed);
            var records = new WalRecord[random.Next(1, 20)];
            for (var i = 0; i < records.Length; i++)
            {
                var id = new EntryId((ulong)random.NextInt64(), (ulong)random.NextInt64());
                records[i] = random.Next(8) switch
                {
                    0 => WalRecord.Of(new HardState(id.Term, id.Index)),
                    1 => WalRecord.Truncate(id.Index) with { Id = id },
                    2 => WalRecord.SnapshotMarker(id),
                    3 => WalRecord.Commit(id.Index),
                    _ => WalRecord.Entry(id, (EntryKind)random.Next(1, 4), WalRig.RandomPayload(random)),
                };
            }

            var (frame, header) = Encode(records);
            AssertSectorsAreDense(frame, header.PayloadBytes);
            var payload = frame.AsMemory(FrameLayout.For(header.PayloadBytes).PayloadOffset, header.PayloadBytes);
            FrameEncoder.ApplyMask(payload.Span, header.Mask);
            ReadOnlyMemory<byte> rest = payload;
            foreach (var record in records)
            {
                Assert.True(WalRecord.TryDecode(ref rest, out var decoded));
                Assert.Equal((record.Kind, record.EntryKind, record.Id), (decoded.Kind, decoded.EntryKind, decoded.Id));
                Assert.True(record.Payload.Span.SequenceEqual(decoded.Payload.Span));
            }

            Assert.Equal("END!"u8, rest.Span);
        }
    }

    [Fact]
    public void OnlyAPayloadWithALoneBitInASectorIsMasked()
    {
        Assert.Equal(0UL, Encode([WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[3000])]).Header.Mask);
        var lone = new byte[3000];
        lone[1500] = 4;
        Assert.NotEqual(0UL, Encode([WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, lone)]).Header.Mask);
    }

    [Fact]
    public void ARecordCutAnywhereOrWithStrangeFieldsIsNoRecord()
    {
        var bytes = new byte[WalRecord.HeaderBytes + 7];
        Assert.Equal(bytes.Length, WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[7]).Encode(bytes));
        for (var length = 0; length < bytes.Length; length++)
        {
            ReadOnlyMemory<byte> cut = bytes.AsMemory(0, length);
            Assert.False(WalRecord.TryDecode(ref cut, out _));
        }

        (int, byte)[] changes = [(0, 0), (0, 9), (1, 0), (1, 4), (2, 1), (3, 1), (4, 8), (7, 0x80)];
        foreach (var (at, value) in changes)
        {
            var strange = bytes.ToArray();
            strange[at] = value;
            ReadOnlyMemory<byte> source = strange;
            Assert.False(WalRecord.TryDecode(ref source, out _));
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public void OnlyAnEntryHasAKindAndAPayload(byte number)
    {
        var kind = (RecordKind)number;
        Assert.True(Decodes(new WalRecord(kind, default, new EntryId(0, 1), default)));
        Assert.False(Decodes(new WalRecord(kind, EntryKind.Normal, new EntryId(0, 1), default)));
        Assert.False(Decodes(new WalRecord(kind, default, new EntryId(0, 1), new byte[1])));
        Assert.Equal(kind != RecordKind.Commit, Decodes(new WalRecord(kind, default, new EntryId(1, 1), default)));

        static bool Decodes(WalRecord record)
        {
            var bytes = new byte[WalRecord.HeaderBytes + record.Payload.Length];
            _ = record.Encode(bytes);
            ReadOnlyMemory<byte> source = bytes;
            return WalRecord.TryDecode(ref source, out _);
        }
    }

    [Theory]
    [InlineData("0000000000000001.wal", true)]
    [InlineData("0000000000000A01.wal", false)]
    [InlineData("000000000000001.wal", false)]
    [InlineData("0000000000000001.wal.tmp", false)]
    [InlineData("+000000000000001.wal", false)]
    [InlineData("0000000000000001.spare", false)]
    public void OnlyExactNamesAreSegments(string name, bool expected) =>
        Assert.Equal(expected, WalFormat.TryParseName(name, WalFormat.SegmentSuffix, out _));

    private static void AssertHex(string expected, byte[] content, int offset) =>
        Assert.Equal(expected, Convert.ToHexString(content.AsSpan(offset, expected.Length / 2)));

    private static void PutHex(string hex, byte[] content, int offset) =>
        Convert.FromHexString(hex).CopyTo(content, offset);

    private static (byte[] Frame, FrameHeader Header) Encode(WalRecord[] records)
    {
        var payload = (int)FrameEncoder.PayloadBytes(records);
        var layout = FrameLayout.For(payload);
        var frame = new byte[layout.Bytes];
        new Random(1).NextBytes(frame);
        var crc = FrameEncoder.Encode(
            new FrameHeader(1, 2, 3, 2, 0, 4, payload, records.Length, 0, 5), layout, records, frame);
        Assert.True(FrameHeader.TryDecode(frame, out var header, out var read));
        Assert.Equal(crc, read);
        return (frame, header);
    }

    private static void AssertSectorsAreDense(byte[] frame, int payloadBytes)
    {
        var layout = FrameLayout.For(payloadBytes);
        for (var i = 0; i < layout.Sectors; i++)
        {
            var bits = frame.AsSpan(i * 512, 512).ToArray().Sum(single => int.PopCount(single));
            Assert.NotEqual(1, bits);
            Assert.True(bits > 0 || (i >= layout.HeadSectors && i < layout.Sectors - 1));
        }
    }
}
