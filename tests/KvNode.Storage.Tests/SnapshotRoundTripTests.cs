using System.Text;
using FsCheck;
using FsCheck.Fluent;
using KvNode.Native;
using KvNode.Storage.Snapshots;
using Xunit;
using static KvNode.Storage.Tests.SnapshotSupport;

namespace KvNode.Storage.Tests;

public sealed class SnapshotRoundTripTests
{
    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 1)]
    [InlineData(3, 50)]
    [InlineData(4, 400)]
    [InlineData(5, 400)]
    public void RandomRecordsComeBackAsTheyWere(int seed, int count)
    {
        var records = RandomRecords(new Random(seed), count);
        var (header, read) = Read(Write(records));

        var expected = HeaderFor(count);
        Assert.Equal(expected with { Members = header.Members }, header);
        Assert.Equal(expected.Members, header.Members);
        AssertSame(records, read);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(262_144)]
    [InlineData(5_000_000)]
    public void TheFileDoesNotDependOnHowItIsRead(int pieceBytes)
    {
        var records = RandomRecords(new Random(11), pieceBytes < 10 ? 20 : 200);
        using var stream = new SnapshotStream(HeaderFor(records.Count), new ListSource(records));

        var file = ReadAll(stream, pieceBytes);

        Assert.Equal(Write(records), file);
        AssertSame(records, Read(file, pieceBytes).Records);
    }

    [Fact]
    public void KeysAndValuesAtTheLimitsComeBack()
    {
        var longKey = new byte[StoreLimits.KeyBytesMax];
        Array.Fill(longKey, (byte)0xFF);
        SnapshotRecord[] records =
        [
            new([], []),
            new([0], [1]),
            new([0xFF], new byte[3_000_000]),
            new(longKey, [2]),
        ];

        AssertSame(records, Read(Write(records)).Records);
    }

    [Fact]
    public void ValuesNotReadArePassedOverAndStillVerified()
    {
        var records = RandomRecords(new Random(12), 300);
        using var reader = new SnapshotReader(new MemoryStream(Write(records)));
        var count = 0;
        var some = new byte[10];
        while (reader.MoveNext())
        {
            Assert.Equal(records[count].Key, reader.Key.ToArray());
            _ = count++ % 2 == 0 ? 0 : reader.ReadValue(some);
        }

        Assert.Equal(records.Count, count);
    }

    [Fact]
    public void AnyHeaderAndRecordsRoundTrip()
    {
        var property = Prop.ForAll<Dictionary<string, byte[]>, (ulong Index, ulong Term, long Clock), string[]>(
            (pairs, numbers, members) =>
            {
                var records = pairs
                    .Select(pair => new SnapshotRecord(Encoding.Unicode.GetBytes(pair.Key), pair.Value ?? []))
                    .OrderBy(record => record.Key, Comparer<byte[]>.Create((a, b) => a.AsSpan().SequenceCompareTo(b)))
                    .ToList();
                var names = members.Select(name => Convert.ToHexString(Encoding.Unicode.GetBytes(name ?? ""))).ToList();
                var header = new SnapshotHeader(numbers.Index, numbers.Term, numbers.Clock, records.Count, names);
                var (readHeader, read) = Read(Write(records, header));
                return readHeader with { Members = names } == header
                    && readHeader.Members.SequenceEqual(names)
                    && read.Count == records.Count
                    && read.Zip(records).All(pair => IsSame(pair.First, pair.Second));
            });

        property.Check(Config.QuickThrowOnFailure.WithMaxTest(200).WithReplay(20_260_101, 17));
    }

    [Fact]
    public void MemoryStaysConstantForTheLargestValue()
    {
        using var source = new HugeValueSource(StoreLimits.ValueBytesMax);
        var before = GC.GetAllocatedBytesForCurrentThread();
        using var stream = new SnapshotStream(HeaderFor(1), source);
        using var reader = new SnapshotReader(new SnapshotStreamAsStream(stream));
        Assert.True(reader.MoveNext());
        Assert.Equal(StoreLimits.ValueBytesMax, reader.ValueLength);
        var piece = new byte[1 << 20];
        long total = 0;
        int count;
        while ((count = reader.ReadValue(piece)) > 0)
        {
            total += count;
        }

        Assert.False(reader.MoveNext());
        Assert.Equal(StoreLimits.ValueBytesMax, total);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 3 << 20);
    }

    [Fact]
    public void ReadingAndWritingAllocateNothingPerRecord()
    {
        var records = Enumerable.Range(0, 20_000)
            .Select(i => new SnapshotRecord(Encoding.ASCII.GetBytes($"key:{i:D8}"), new byte[100])).ToList();
        var file = new MemoryStream(1 << 22);
        var piece = new byte[65_536];
        var before = GC.GetAllocatedBytesForCurrentThread();
        using (var stream = new SnapshotStream(HeaderFor(records.Count), new ListSource(records)))
        {
            int count;
            while ((count = stream.Read(piece)) > 0)
            {
                file.Write(piece, 0, count);
            }
        }

        file.Position = 0;
        using (var reader = new SnapshotReader(file))
        {
            while (reader.MoveNext())
            {
                _ = reader.ReadValue(piece);
            }
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2 << 20);
    }

    [Fact]
    public void ASourceThatBreaksItsPromiseGetsNoFile()
    {
        SnapshotRecord a = new([1], []);
        SnapshotRecord b = new([2], []);
        Assert.Throws<InvalidOperationException>(() => Write([a, b], HeaderFor(1)));
        Assert.Throws<InvalidOperationException>(() => Write([a, b], HeaderFor(3)));
        Assert.Throws<InvalidOperationException>(() => Write([b, a]));
        Assert.Throws<InvalidOperationException>(() => Write([a, a]));
        Assert.Throws<InvalidOperationException>(() => Write([new(new byte[StoreLimits.KeyBytesMax + 1], [])]));
    }

    [Fact]
    public void AHeaderThatDoesNotFitIsRefused()
    {
        Assert.Throws<ArgumentException>(() => SnapshotFormat.EncodeHeader(HeaderFor(-1)));
        var many = Enumerable.Repeat(new string('x', 100), 1000).ToList();
        Assert.Throws<ArgumentException>(() => SnapshotFormat.EncodeHeader(HeaderFor(0) with { Members = many }));
        Assert.Throws<ArgumentException>(
            () => SnapshotFormat.EncodeHeader(HeaderFor(0) with { Members = [new string('x', 65_536)] }));
    }

    [Fact]
    public void DisposingTheStreamDisposesItsSource()
    {
        using var source = new ListSource([]);
        new SnapshotStream(HeaderFor(0), source).Dispose();
        Assert.True(source.Disposed);
    }

    /// <summary>One value of zeros: pages nobody wrote to, so the test itself needs no memory for them.</summary>
    private sealed unsafe class HugeValueSource(int bytes) : IRecordSource
    {
        private byte* _memory = Libc.MapMemory((nuint)bytes);
        private bool _given;

        public ReadOnlySpan<byte> Key => "huge"u8;

        public ValueTag Tag => ValueTag.String;

        public ReadOnlySpan<byte> Value => new(_memory, bytes);

        public bool MoveNext() => !_given && (_given = true);

        public void Dispose()
        {
            if (_memory != null)
            {
                Libc.UnmapMemory(_memory, (nuint)bytes);
                _memory = null;
            }
        }
    }
}
