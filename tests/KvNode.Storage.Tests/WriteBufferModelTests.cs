using KvNode.Testing;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>The write buffer against a sorted dictionary of every version, at present and at past sequence numbers.</summary>
public sealed class WriteBufferModelTests
{
    // Enough for runs of every size (512, 4096, 32768) and a tail, and for the hash table to grow five times.
    private const int KeysWanted = 41_500;

    [Theory]
    [InlineData(KeyFamily.Random)]
    [InlineData(KeyFamily.SharedPrefix)]
    [InlineData(KeyFamily.EqualWindows)]
    [InlineData(KeyFamily.TrailingZeros)]
    [InlineData(KeyFamily.Mixed)]
    public void RandomOperationsShowAtEverySequenceNumberWhatASortedDictionaryShows(KeyFamily family) =>
        Seeds.Run(nameof(RandomOperationsShowAtEverySequenceNumberWhatASortedDictionaryShows) + family, random =>
        {
            var model = new BufferModel(random, family);
            try
            {
                for (var keys = 0; keys < KeysWanted; keys = model.Buffer.Keys)
                {
                    model.ApplyBatch(random.Next(1, 200));
                    if (random.Next(100) == 0)
                    {
                        model.OpenEarlyCursor();
                    }

                    model.CheckPoints(20);
                }

                model.CheckEarlyCursors();
                model.CheckPoints(5_000);
                model.CheckCursors(model.Sequence);
                model.CheckCursors((ulong)random.NextInt64((long)model.Sequence));
                model.CheckFlush();
            }
            finally
            {
                model.Buffer.Release();
            }
        });

    [Fact]
    public void EveryOneOfAFewVersionsIsSeenFromItsOwnSequenceNumber()
    {
        var buffer = new WriteBuffer(clearsBelow: false);
        Assert.Equal(BufferLookup.Missing, buffer.Put(2, "k"u8, "two"u8));
        Assert.Equal(BufferLookup.Value, buffer.Delete(4, "k"u8));
        Assert.Equal(BufferLookup.Tombstone, buffer.Put(6, "k"u8, ""u8));
        Assert.Equal(BufferLookup.Value, buffer.Put(6, "k"u8, "six"u8));
        string[] expected = ["Missing", "Missing", "two", "two", "Tombstone", "Tombstone", "six", "six"];
        for (var sequence = 0; sequence < expected.Length; sequence++)
        {
            var found = buffer.TryGet((ulong)sequence, "k"u8, out var value);
            Assert.Equal(expected[sequence], found == BufferLookup.Value ? System.Text.Encoding.ASCII.GetString(value) : $"{found}");
            Assert.Equal(BufferLookup.Missing, buffer.TryGet((ulong)sequence, "K"u8, out _));
        }

        Assert.Equal(1, buffer.Keys);
        buffer.Release();
    }

    [Fact]
    public void AnEmptyBufferHasNoKeyInEitherDirection()
    {
        var buffer = new WriteBuffer(clearsBelow: true);
        Assert.True(buffer.ClearsBelow);
        Assert.Equal(BufferLookup.Missing, buffer.TryGet(ulong.MaxValue, ""u8, out _));
        using var cursor = buffer.OpenCursor(ulong.MaxValue);
        Assert.False(cursor.SeekAtOrAfter(""u8));
        Assert.False(cursor.SeekLast());
        Assert.False(cursor.SeekBefore("z"u8));
        Assert.False(cursor.MovePrevious());
        Assert.False(buffer.OpenFlush().MoveNext());
        buffer.Release();
    }

    [Fact]
    public void ValuesFromEmptyToLargerThanAnArenaChunkComeBackWhole() =>
        Seeds.Run(nameof(ValuesFromEmptyToLargerThanAnArenaChunkComeBackWhole), random =>
        {
            var buffer = new WriteBuffer(clearsBelow: false);
            int[] lengths = [0, 1, 7, 8, 9, 65_535, (1 << 20) - 64, 1 << 20, (1 << 20) + 1, (4 << 20) - 1, 4 << 20, 9 << 20];
            var values = new byte[lengths.Length * 2][];
            var before = buffer.Bytes;
            var total = 0L;
            for (var i = 0; i < values.Length; i++)
            {
                values[i] = WriteBufferSupport.Bytes(random, lengths[i % lengths.Length]);
                total += values[i].Length;
                buffer.Put((ulong)i, WriteBufferSupport.Number(i), values[i]);
            }

            Assert.InRange(buffer.Bytes - before, total, total + 128 * 1024);
            for (var i = 0; i < values.Length; i++)
            {
                Assert.Equal(BufferLookup.Value, buffer.TryGet((ulong)i, WriteBufferSupport.Number(i), out var value));
                Assert.True(value.SequenceEqual(values[i]), $"value of {values[i].Length} bytes");
            }

            buffer.Release();
        });

    /// <summary>A buffer and what it should hold.</summary>
    private sealed class BufferModel(Random random, KeyFamily family)
    {
        private readonly SortedDictionary<byte[], List<(ulong Sequence, byte[]? Value)>> _model = new(KeyOrder.Instance);
        private readonly List<byte[]> _keys = [];
        private readonly List<(ulong Sequence, WriteBuffer.Cursor Cursor)> _early = [];

        public WriteBuffer Buffer { get; } = new(clearsBelow: false);

        public ulong Sequence { get; private set; }

        public void ApplyBatch(int operations)
        {
            Sequence++;
            for (var i = 0; i < operations; i++)
            {
                // A batch is one sequence number or, as the store counts, one for each write.
                Sequence += (ulong)random.Next(2);
                var key = random.Next(5) == 0 && _keys.Count > 0
                    ? _keys[random.Next(_keys.Count)]
                    : WriteBufferSupport.NextKey(random, family);
                Apply(key, random.Next(6) == 0 ? null : WriteBufferSupport.Bytes(random, random.Next(40)));
            }
        }

        public void OpenEarlyCursor()
        {
            if (_early.Count < 2)
            {
                _early.Add((Sequence, Buffer.OpenCursor(Sequence)));
            }
        }

        public void CheckEarlyCursors()
        {
            foreach (var (sequence, cursor) in _early)
            {
                CheckWalks(cursor, sequence);
            }
        }

        public void CheckCursors(ulong sequence)
        {
            using var cursor = Buffer.OpenCursor(sequence);
            CheckWalks(cursor, sequence);
            CheckSeeks(cursor, sequence);
        }

        public void CheckPoints(int count)
        {
            for (var i = 0; i < count; i++)
            {
                var key = random.Next(10) == 0 ? WriteBufferSupport.NextKey(random, family) : _keys[random.Next(_keys.Count)];
                var sequence = (ulong)random.NextInt64((long)Sequence + 1);
                var found = Buffer.TryGet(sequence, key, out var value);
                var expected = _model.TryGetValue(key, out var versions) ? VisibleAt(versions, sequence) : null;
                Assert.Equal(Lookup(expected), found);
                Assert.True(value.SequenceEqual(expected?.Value));
            }
        }

        public void CheckFlush()
        {
            Assert.Equal(_model.Count, Buffer.Keys);
            var flush = Buffer.OpenFlush();
            foreach (var (key, versions) in _model)
            {
                Assert.True(flush.MoveNext());
                CheckRecord(key, versions[^1].Value, flush.Key, flush.IsTombstone, flush.IsTombstone ? default : flush.Value);
            }

            Assert.False(flush.MoveNext());
        }

        private static (ulong Sequence, byte[]? Value)? VisibleAt(List<(ulong Sequence, byte[]? Value)> versions, ulong sequence)
        {
            for (var i = versions.Count - 1; i >= 0; i--)
            {
                if (versions[i].Sequence <= sequence)
                {
                    return versions[i];
                }
            }

            return null;
        }

        private static BufferLookup Lookup((ulong Sequence, byte[]? Value)? version) =>
            version is null ? BufferLookup.Missing : version.Value.Value is null ? BufferLookup.Tombstone : BufferLookup.Value;

        private static void CheckRecord(
            byte[] key, byte[]? value, ReadOnlySpan<byte> seenKey, bool isTombstone, ReadOnlySpan<byte> seenValue)
        {
            Assert.True(seenKey.SequenceEqual(key), "the walk skipped a key or gave one too many");
            Assert.Equal(value is null, isTombstone);
            Assert.True(seenValue.SequenceEqual(value));
        }

        private void Apply(byte[] key, byte[]? value)
        {
            var hash = WriteBuffer.Hash(key);
            var isNew = !_model.TryGetValue(key, out var versions);
            if (isNew)
            {
                _model.Add(key, versions = []);
                _keys.Add(key);
            }

            var before = isNew ? BufferLookup.Missing : Lookup(versions![^1]);
            Assert.Equal(before, value is null ? Buffer.Delete(Sequence, key, hash) : Buffer.Put(Sequence, key, value));
            versions!.Add((Sequence, value));
        }

        private List<(byte[] Key, byte[]? Value)> StateAt(ulong sequence)
        {
            var state = new List<(byte[] Key, byte[]? Value)>();
            foreach (var (key, versions) in _model)
            {
                if (VisibleAt(versions, sequence) is { } version)
                {
                    state.Add((key, version.Value));
                }
            }

            return state;
        }

        private void CheckWalks(WriteBuffer.Cursor cursor, ulong sequence)
        {
            var state = StateAt(sequence);
            var more = cursor.SeekAtOrAfter(default);
            foreach (var (key, value) in state)
            {
                Assert.True(more);
                CheckRecord(key, value, cursor.Key, cursor.IsTombstone, cursor.IsTombstone ? default : cursor.Value);
                more = cursor.MoveNext();
            }

            Assert.False(more);
            Assert.False(cursor.MoveNext());
            more = cursor.SeekLast();
            for (var i = state.Count - 1; i >= 0; i--)
            {
                Assert.True(more);
                CheckRecord(state[i].Key, state[i].Value, cursor.Key, cursor.IsTombstone, cursor.IsTombstone ? default : cursor.Value);
                more = cursor.MovePrevious();
            }

            Assert.False(more);
        }

        private void CheckSeeks(WriteBuffer.Cursor cursor, ulong sequence)
        {
            var keys = StateAt(sequence).ConvertAll(static record => record.Key);
            for (var i = 0; i < 500; i++)
            {
                var key = random.Next(2) == 0 ? WriteBufferSupport.NextKey(random, family) : _keys[random.Next(_keys.Count)];
                var at = keys.BinarySearch(key, KeyOrder.Instance);
                at = at < 0 ? ~at : at;
                Assert.Equal(at < keys.Count, cursor.SeekAtOrAfter(key));
                for (var step = at; step < Math.Min(at + 3, keys.Count); step++)
                {
                    Assert.True(cursor.Key.SequenceEqual(keys[step]));
                    Assert.Equal(step + 1 < keys.Count, cursor.MoveNext());
                }

                Assert.Equal(at > 0, cursor.SeekBefore(key));
                for (var step = at - 1; step >= Math.Max(at - 3, 0); step--)
                {
                    Assert.True(cursor.Key.SequenceEqual(keys[step]));
                    Assert.Equal(step > 0, cursor.MovePrevious());
                }
            }
        }
    }
}
