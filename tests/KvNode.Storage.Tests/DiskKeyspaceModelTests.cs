using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>The disk keyspace against a sorted dictionary: random work by seed, then every question both can answer.</summary>
public sealed class DiskKeyspaceModelTests
{
    private static readonly DiskOptions Options = new()
    {
        MapBytes = 1L << 30,
        MapBytesFloor = 1L << 20,
        GrowWaitMax = TimeSpan.FromMilliseconds(20),
    };

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void DiskAgreesWithTheModelAfterRandomWork(int seed)
    {
        using var directory = new DiskTestDirectory();
        var run = new ModelRun(seed);
        for (var session = 0; session < 3; session++)
        {
            using var disk = DiskKeyspace.Open(directory.Path, Options);
            for (var round = 0; round < 6; round++)
            {
                run.Write(disk);
                run.CompareAll(disk);
                run.CompareSeeks(disk, 120);
            }
        }

        Assert.Empty(DiskVerifier.Verify(directory.Path).Findings);
    }

    [Fact]
    public void DeletingEveryKeyLeavesNoChunkRecord()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        var run = new ModelRun(77);
        for (var round = 0; round < 4; round++)
        {
            run.Write(disk);
        }

        Assert.True(disk.Statistics().Records > run.Model.Count, "no long key was stored, so nothing would be tested");
        run.DeleteAll(disk);
        Assert.Equal(0, disk.Statistics().Records);
        run.CompareAll(disk);
    }

    private sealed class ModelRun(int seed)
    {
        private readonly Random _random = new(seed);
        private readonly DiskKeyMaker _keys = new(seed);
        private ulong _index;

        public SortedDictionary<byte[], byte[]> Model { get; } = new(ByteOrder.Instance);

        /// <summary>One transaction; sometimes aborted, sometimes with a Clear inside, sometimes sorted.</summary>
        public void Write(DiskKeyspace disk)
        {
            var attempt = new SortedDictionary<byte[], byte[]>(Model, ByteOrder.Instance);
            var keys = new List<byte[]>();
            for (var i = 0; i < 200; i++)
            {
                keys.Add(_keys.Next());
            }

            if (_random.Next(2) == 0)
            {
                keys.Sort(ByteOrder.Instance);
            }

            using var writer = disk.BeginWrite();
            if (_random.Next(8) == 0)
            {
                writer.Clear();
                attempt.Clear();
            }

            foreach (var key in keys)
            {
                Change(writer, attempt, key);
            }

            if (_random.Next(6) == 0)
            {
                writer.Abort();
                return;
            }

            _index++;
            writer.SetState(new DiskState { AppliedIndex = _index, AppliedTerm = 7, Count = attempt.Count, ClockMs = 5 });
            writer.Commit();
            Model.Clear();
            foreach (var pair in attempt)
            {
                Model.Add(pair.Key, pair.Value);
            }
        }

        public void DeleteAll(DiskKeyspace disk)
        {
            using var writer = disk.BeginWrite();
            foreach (var key in Model.Keys)
            {
                Assert.True(writer.Delete(key));
                Assert.False(writer.Delete(key));
            }

            writer.SetState(default);
            writer.Commit();
            Model.Clear();
            _index = 0;
        }

        public void CompareAll(DiskKeyspace disk)
        {
            var reader = disk.RentReader();
            Assert.Equal(Model.Count, reader.State.Count);
            Assert.Equal(_index, reader.State.AppliedIndex);
            using (var cursor = reader.OpenCursor())
            {
                var ascending = Model.ToArray();
                var at = 0;
                for (var more = cursor.SeekFirst(); more; more = cursor.MoveNext())
                {
                    Same(ascending[at++], cursor);
                }

                Assert.Equal(ascending.Length, at);
                Assert.False(cursor.MoveNext());
                for (var more = cursor.SeekLast(); more; more = cursor.MovePrevious())
                {
                    Same(ascending[--at], cursor);
                }

                Assert.Equal(0, at);
                Assert.False(cursor.MovePrevious());
            }

            foreach (var pair in Model)
            {
                Assert.True(reader.TryGet(pair.Key, out var value));
                Assert.True(value.SequenceEqual(pair.Value));
            }

            disk.ReturnReader(reader);
        }

        public void CompareSeeks(DiskKeyspace disk, int times)
        {
            var reader = disk.RentReader();
            var ascending = Model.ToArray();
            using (var cursor = reader.OpenCursor())
            {
                for (var i = 0; i < times; i++)
                {
                    var target = i % 3 == 0 && ascending.Length > 0
                        ? ascending[_random.Next(ascending.Length)].Key
                        : _keys.Next();
                    var at = Array.FindIndex(ascending, p => ByteOrder.Instance.Compare(p.Key, target) >= 0);
                    var after = at < 0 ? ascending.Length : at;
                    Assert.Equal(Model.ContainsKey(target), reader.TryGet(target, out _));
                    CompareWalk(cursor, ascending, after, cursor.SeekAtOrAfter(target));
                    CompareWalk(cursor, ascending, after - 1, cursor.SeekBefore(target));
                }
            }

            disk.ReturnReader(reader);
        }

        /// <summary>From a position the model knows: a short random walk to and fro.</summary>
        private void CompareWalk(DiskCursor cursor, KeyValuePair<byte[], byte[]>[] ascending, int at, bool found)
        {
            for (var step = 0; step < 8; step++)
            {
                Assert.Equal(at >= 0 && at < ascending.Length, found);
                if (!found)
                {
                    Assert.False(cursor.MoveNext());
                    Assert.False(cursor.MovePrevious());
                    return;
                }

                Same(ascending[at], cursor);
                var forward = _random.Next(2) == 0;
                at += forward ? 1 : -1;
                found = forward ? cursor.MoveNext() : cursor.MovePrevious();
            }
        }

        private void Change(DiskWriter writer, SortedDictionary<byte[], byte[]> attempt, byte[] key)
        {
            if (_random.Next(3) == 0)
            {
                Assert.Equal(attempt.Remove(key), writer.Delete(key));
                return;
            }

            var value = new byte[1 + (_random.Next(40) == 0 ? _random.Next(20_000) : _random.Next(120))];
            _random.NextBytes(value);
            value[0] = (byte)ValueTag.String;
            attempt[key] = value;
            if (_random.Next(2) == 0)
            {
                writer.Put(key, value);
            }
            else
            {
                writer.Put(key, value.AsSpan(0, 1), value.AsSpan(1));
            }
        }

        private static void Same(KeyValuePair<byte[], byte[]> expected, DiskCursor actual)
        {
            Assert.True(actual.Key.SequenceEqual(expected.Key), "keys differ");
            Assert.True(actual.Value.SequenceEqual(expected.Value), "values differ");
        }
    }
}
