namespace KvNode.Storage;

internal sealed unsafe partial class WriteBuffer
{
    /// <summary>
    /// Walks a buffer's keys in order as of one sequence number, tombstones included: the layers below need them.
    /// </summary>
    /// <remarks>
    /// Seek, then move in one direction only: forward after SeekAtOrAfter, backward after SeekBefore and SeekLast. A
    /// binary heap over the runs gives the next key; keys are in one run each, so there are no ties.
    /// </remarks>
    internal sealed class Cursor : IDisposable
    {
        private readonly BufferOrder.Run[] _runs;
        private readonly nint[] _tail;
        private readonly ulong _sequence;

        // Position of each run (the tail is the last), and a heap of the runs that have keys left.
        private readonly int[] _positions;
        private readonly int[] _heap;
        private int _heapCount;
        private bool _backward;
        private BufferKey* _key;
        private BufferVersion* _version;

        public Cursor(BufferOrder.Run[] runs, nint[] tail, ulong sequence)
        {
            _runs = runs;
            _tail = tail;
            _sequence = sequence;
            _positions = new int[runs.Length + 1];
            _heap = new int[runs.Length + 1];
        }

        public ReadOnlySpan<byte> Key => BufferKey.Bytes(_key);

        public bool IsTombstone => _version->Length == BufferVersion.Tombstone;

        /// <summary>The value with its tag byte; not for a tombstone.</summary>
        public ReadOnlySpan<byte> Value => BufferVersion.Value(_version);

        /// <summary>To the first key that is not before <paramref name="key"/>.</summary>
        public bool SeekAtOrAfter(ReadOnlySpan<byte> key)
        {
            _backward = false;
            _heapCount = 0;
            for (var run = 0; run < _positions.Length; run++)
            {
                _positions[run] = LowerBound(Run(run), key);
                if (_positions[run] < Run(run).Length)
                {
                    Push(run);
                }
            }

            return TakeVisible();
        }

        /// <summary>To the last key that is before <paramref name="key"/>.</summary>
        public bool SeekBefore(ReadOnlySpan<byte> key)
        {
            _backward = true;
            _heapCount = 0;
            for (var run = 0; run < _positions.Length; run++)
            {
                _positions[run] = LowerBound(Run(run), key) - 1;
                if (_positions[run] >= 0)
                {
                    Push(run);
                }
            }

            return TakeVisible();
        }

        public bool SeekLast()
        {
            _backward = true;
            _heapCount = 0;
            for (var run = 0; run < _positions.Length; run++)
            {
                _positions[run] = Run(run).Length - 1;
                if (_positions[run] >= 0)
                {
                    Push(run);
                }
            }

            return TakeVisible();
        }

        public bool MoveNext()
        {
            Invariant.Check(!_backward, "a cursor keeps its direction");
            StepTop();
            return TakeVisible();
        }

        public bool MovePrevious()
        {
            Invariant.Check(_backward, "a cursor keeps its direction");
            StepTop();
            return TakeVisible();
        }

        public void Dispose()
        {
            // The memory belongs to the buffer.
        }

        private static int LowerBound(ReadOnlySpan<nint> keys, ReadOnlySpan<byte> key)
        {
            int low = 0, high = keys.Length;
            while (low < high)
            {
                var middle = (int)((uint)(low + high) / 2);
                if (BufferKey.Bytes((BufferKey*)keys[middle]).SequenceCompareTo(key) < 0)
                {
                    low = middle + 1;
                }
                else
                {
                    high = middle;
                }
            }

            return low;
        }

        private ReadOnlySpan<nint> Run(int run) => run < _runs.Length ? _runs[run].Span : _tail;

        private BufferKey* KeyOf(int run) => (BufferKey*)Run(run)[_positions[run]];

        // Stands on the heap's first key that is visible; false when none is left.
        private bool TakeVisible()
        {
            while (_heapCount > 0)
            {
                _key = KeyOf(_heap[0]);
                _version = BufferKey.VisibleAt(_key, _sequence);
                if (_version != null)
                {
                    return true;
                }

                StepTop();
            }

            return false;
        }

        private void StepTop()
        {
            if (_heapCount == 0)
            {
                return;
            }

            var run = _heap[0];
            _positions[run] += _backward ? -1 : 1;
            if ((uint)_positions[run] >= (uint)Run(run).Length)
            {
                _heap[0] = _heap[--_heapCount];
            }

            SiftDown();
        }

        private bool Before(int left, int right)
        {
            var order = BufferKey.Bytes(KeyOf(left)).SequenceCompareTo(BufferKey.Bytes(KeyOf(right)));
            return _backward ? order > 0 : order < 0;
        }

        private void Push(int run)
        {
            var at = _heapCount++;
            _heap[at] = run;
            while (at > 0 && Before(_heap[at], _heap[(at - 1) / 2]))
            {
                (_heap[at], _heap[(at - 1) / 2]) = (_heap[(at - 1) / 2], _heap[at]);
                at = (at - 1) / 2;
            }
        }

        private void SiftDown()
        {
            var at = 0;
            while (true)
            {
                var least = at;
                for (var child = 2 * at + 1; child <= 2 * at + 2; child++)
                {
                    if (child < _heapCount && Before(_heap[child], _heap[least]))
                    {
                        least = child;
                    }
                }

                if (least == at)
                {
                    return;
                }

                (_heap[at], _heap[least]) = (_heap[least], _heap[at]);
                at = least;
            }
        }
    }

    /// <summary>Walks every key of a finished buffer with its newest version, in key order.</summary>
    internal sealed class FlushCursor(nint[] keys)
    {
        private int _at = -1;

        public ReadOnlySpan<byte> Key => BufferKey.Bytes((BufferKey*)keys[_at]);

        public bool IsTombstone => Version->Length == BufferVersion.Tombstone;

        /// <summary>The value with its tag byte; not for a tombstone.</summary>
        public ReadOnlySpan<byte> Value => BufferVersion.Value(Version);

        private BufferVersion* Version => (BufferVersion*)((BufferKey*)keys[_at])->Newest;

        public bool MoveNext() => ++_at < keys.Length;
    }
}
